"""One file per measured thing, the project and its peer side by side in one run."""
