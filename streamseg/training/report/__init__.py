"""What a training run reports: tables, curves and contact sheets."""
