"""What there is to compute with, for people (`thumbwise doctor`); what is used is base_model.choose_device's affair."""


def gpu_name() -> str | None:
    """Name the GPU that torch sees, or None. Imports torch, which takes a second or two."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
