"""A model in a few words."""

from streamseg.models.spec import ModelSpec


def describe_model(spec: ModelSpec) -> str:
    """Architecture, backbone, deformable convolutions and input size."""
    height, width = spec.input.canvas or (spec.input.short_side, spec.input.long_side)
    parts: list[str] = [spec.architecture, spec.backbone]
    if spec.deformable is not None:
        places = ["backbone"] if spec.deformable.backbone else []
        places += [f"head: {spec.deformable.head}"] if spec.deformable.head != "none" else []
        parts.append(f"deformable v{spec.deformable.version} ({', '.join(places)})")
    return ", ".join([*parts, f"input {width}x{height}"])
