"""Networks: backbones, necks, heads."""
