"""What training is made of: losses, optimizers, learning rates, metrics, batch statistics."""
