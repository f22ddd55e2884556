"""The backbones that can be asked for by name, known without loading Keras."""

import dataclasses

from ...features.errors import WrongUsage, nearest


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One image classifier of ``keras.applications``."""

    name: str
    """Of the function that builds it."""
    module: str
    """Of ``keras.applications``, home of its ``preprocess_input``."""
    size: int
    """Side of the input that it was trained on, in pixels: the default."""
    minimum: int = 32
    """Smallest side that it can be built for."""


def _family(module: str, minimum: int = 32, /, **sizes: int) -> dict[str, Architecture]:
    return {name: Architecture(name, module, size, minimum) for name, size in sizes.items()}


# Keras tells these only after an import of many seconds; a test compares the table with Keras.
ARCHITECTURES: dict[str, Architecture] = {
    **_family("xception", 71, Xception=299),
    **_family("convnext", ConvNeXtTiny=224, ConvNeXtSmall=224, ConvNeXtBase=224),
    **_family("convnext", ConvNeXtLarge=224, ConvNeXtXLarge=224),
    **_family("densenet", DenseNet121=224, DenseNet169=224, DenseNet201=224),
    **_family("efficientnet", EfficientNetB0=224, EfficientNetB1=240, EfficientNetB2=260),
    **_family("efficientnet", EfficientNetB3=300, EfficientNetB4=380, EfficientNetB5=456),
    **_family("efficientnet", EfficientNetB6=528, EfficientNetB7=600),
    **_family("efficientnet_v2", EfficientNetV2B0=224, EfficientNetV2B1=240),
    **_family("efficientnet_v2", EfficientNetV2B2=260, EfficientNetV2B3=300),
    **_family("efficientnet_v2", EfficientNetV2S=384, EfficientNetV2M=480, EfficientNetV2L=480),
    **_family("inception_resnet_v2", 75, InceptionResNetV2=299),
    **_family("inception_v3", 75, InceptionV3=299),
    **_family("mobilenet", MobileNet=224),
    **_family("mobilenet_v2", MobileNetV2=224),
    **_family("mobilenet_v3", MobileNetV3Large=224, MobileNetV3Small=224),
    **_family("nasnet", NASNetLarge=331, NASNetMobile=224),
    **_family("resnet", ResNet50=224, ResNet101=224, ResNet152=224),
    **_family("resnet_v2", ResNet50V2=224, ResNet101V2=224, ResNet152V2=224),
    **_family("vgg16", VGG16=224),
    **_family("vgg19", VGG19=224),
}


def architecture(name: str) -> Architecture:
    """Look a backbone up by its name in ``keras.applications``; an error suggests the nearest."""
    if isinstance(name, str) and name in ARCHITECTURES:
        return ARCHITECTURES[name]
    raise WrongUsage(
        f"unknown backbone {name!r}; did you mean {nearest(str(name), ARCHITECTURES)}? All: "
        f"{', '.join(ARCHITECTURES)}"
    )
