"""Every accelerator through one door: which device a rank computes on, and what that device asks of a program."""
