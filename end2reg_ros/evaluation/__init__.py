"""How good a registration or a stream of poses is. Truth enters here and nowhere else."""
