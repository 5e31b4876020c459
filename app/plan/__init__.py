"""Who does what, where: grid arithmetic, costs, artifacts. Pure functions of numbers, standard library only."""
