"""What a training run tells: tables, curves and contact sheets."""
