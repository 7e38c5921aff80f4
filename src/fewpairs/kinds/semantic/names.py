"""Class names and colours of ADE20K and Cityscapes, and class names read from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fewpairs.errors import DataError, InputError
from fewpairs.types import IGNORE

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

ADE20K: tuple[str, ...] = tuple(
    """wall;building;sky;floor;tree;ceiling;road;bed;windowpane;grass;cabinet;sidewalk;person;earth;door;table;mountain;
plant;curtain;chair;car;water;painting;sofa;shelf;house;sea;mirror;rug;field;armchair;seat;fence;desk;rock;wardrobe;
lamp;bathtub;railing;cushion;base;box;column;signboard;chest of drawers;counter;sand;sink;skyscraper;fireplace;
refrigerator;grandstand;path;stairs;runway;case;pool table;pillow;screen door;stairway;river;bridge;bookcase;blind;
coffee table;toilet;flower;book;hill;bench;countertop;stove;palm;kitchen island;computer;swivel chair;boat;bar;
arcade machine;hovel;bus;towel;light;truck;tower;chandelier;awning;streetlight;booth;television receiver;airplane;
dirt track;apparel;pole;land;bannister;escalator;ottoman;bottle;buffet;poster;stage;van;ship;fountain;conveyer belt;
canopy;washer;plaything;swimming pool;stool;barrel;basket;waterfall;tent;bag;minibike;cradle;oven;ball;food;step;tank;
trade name;microwave;pot;animal;bicycle;lake;dishwasher;screen;blanket;sculpture;hood;sconce;vase;traffic light;tray;
ashcan;fan;pier;crt screen;plate;monitor;bulletin board;shower;radiator;glass;clock;flag""".replace("\n", "").split(";")
)
"""The 150 classes of SceneParse150 (Zhou et al. 2017) in the order of their labels 1 to 150."""

CITYSCAPES: dict[str, tuple[int, Colour]] = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
"""The 19 classes that Cityscapes evaluates, in the order of their training labels, with label id and colour."""


def palette(classes: int) -> tuple[Colour, ...]:
    """Return Pascal VOC's colour of each class; the first, usually the background, is black."""
    colours = []
    for number in range(classes):
        red = green = blue = 0
        for place in range(8):
            red |= (number >> (3 * place) & 1) << (7 - place)
            green |= (number >> (3 * place + 1) & 1) << (7 - place)
            blue |= (number >> (3 * place + 2) & 1) << (7 - place)
        colours.append((red, green, blue))
    return tuple(colours)


def read_names(path: Path) -> tuple[str, ...]:
    """Read class names from a text file with one in each line, or from a table whose last column is `Name`.

    If a class has several names, separated by commas (`objectInfo150.txt`), the first one is used.

    Raises:
        DataError: the file does not exist, is not text or has no names.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as class names, one in each line ({error})") from None
    if lines and lines[0].split("\t")[-1].strip().lower() == "name":
        lines = [line.split("\t")[-1] for line in lines[1:]]
        lines = [line.partition(",")[0].strip() for line in lines]
    names = [line for line in lines if line]
    if not names:
        raise DataError(f"{path} holds no class names; write one in each line, in the order of the labels")
    return tuple(names)


def check_names(classes: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the checked names in the order of the labels.

    Raises:
        InputError: there are fewer than two names, too many for an 8-bit label map, or empty or repeated ones.
    """
    names = tuple(classes)
    if not 2 <= len(names) <= IGNORE:
        raise InputError(f"{where} has {len(names)} classes; allowed are 2 to {IGNORE}, including any background")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None or any(not name.strip() for name in names):
        raise InputError(f"{where} names {twice!r} twice" if twice else f"{where} has an empty name; name each class")
    return names
