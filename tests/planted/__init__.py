"""Routing whose answer is known, for tests."""

from planted.routing import (
    PlantedRouting,
    channel_information,
    plant_channel,
    plant_document_labels,
    plant_noise,
)
from planted.trace import PlantedTrace

__all__ = [
    "PlantedRouting",
    "PlantedTrace",
    "channel_information",
    "plant_channel",
    "plant_document_labels",
    "plant_noise",
]
