"""Paint examples/input.png: hot-air balloons over hills. Run it as `python tools/make_input_picture.py [OUT]`.

The picture is ours from the first pixel, so it can go wherever the examples go. It has large plain shapes, thin lines
and smooth gradients, on which the effect of a node shows.
"""

import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 768, 512
SCALE = 3  # painted larger and scaled down, so that edges are smooth

Colour = tuple[int, int, int]

SKY: tuple[Colour, ...] = ((38, 92, 158), (110, 170, 214), (214, 226, 220), (255, 221, 168))
HILLS: tuple[tuple[float, float, float, Colour], ...] = (
    # how high (0 is the top), how wavy, how wide the waves are, colour
    (0.70, 0.050, 1.3, (142, 170, 178)),
    (0.77, 0.040, 2.1, (96, 142, 132)),
    (0.85, 0.045, 1.1, (62, 112, 84)),
    (0.93, 0.025, 1.7, (34, 74, 58)),
)
BALLOONS: tuple[tuple[float, float, float, tuple[Colour, ...]], ...] = (
    # across, down, radius, stripes
    (0.30, 0.34, 0.205, ((222, 62, 54), (250, 240, 222), (240, 168, 48), (250, 240, 222))),
    (0.69, 0.25, 0.125, ((28, 110, 130), (246, 204, 92), (240, 240, 230))),
    (0.86, 0.52, 0.070, ((178, 58, 110), (250, 214, 190))),
    (0.53, 0.60, 0.048, ((58, 84, 160), (240, 200, 120))),
)
ENVELOPE = (
    # two Bézier curves, crown to widest part to mouth, in units of the radius
    ((0.0, -1.0), (0.58, -1.0), (1.0, -0.62), (1.0, -0.06)),
    ((1.0, -0.06), (1.0, 0.44), (0.42, 0.84), (0.16, 1.26)),
)
BIRDS = ((0.50, 0.16, 0.016), (0.545, 0.195, 0.012), (0.475, 0.215, 0.010))
INK: Colour = (44, 40, 48)


def paint_sky(width: int, height: int) -> Image.Image:
    """Return a sky that goes from deep blue to the warm light above the horizon."""
    stops = np.linspace(0, 1, len(SKY))
    rows = np.linspace(0, 1.25, height).clip(0, 1)
    columns = [np.interp(rows, stops, [colour[part] for colour in SKY]) for part in range(3)]
    column = np.stack(columns, axis=-1)[:, None, :]
    return Image.fromarray(np.broadcast_to(column, (height, width, 3)).astype(np.uint8))


def paint_hills(draw: ImageDraw.ImageDraw, width: int, height: int) -> None:
    """Draw the hills, the farthest first."""
    for number, (level, swing, waves, colour) in enumerate(HILLS):
        points = []
        for x in range(0, width + 1, SCALE):
            phase = x / width * math.tau * waves
            wave = math.sin(phase + number * 1.9) + 0.35 * math.sin(phase * 2.7 + number)
            points.append((float(x), height * (level - swing * wave)))
        draw.polygon([*points, (width, height), (0, height)], fill=colour)


def outline(radius: float, share: float) -> list[tuple[float, float]]:
    """Return the envelope's outline from crown to mouth, `share` of its half width to the right of its axis."""
    points = []
    for curve in ENVELOPE:
        for step in range(41):
            along = step / 40
            weights = ((1 - along) ** 3, 3 * along * (1 - along) ** 2, 3 * along**2 * (1 - along), along**3)
            half, down = (
                sum(weight * point[axis] for weight, point in zip(weights, curve, strict=True)) for axis in (0, 1)
            )
            points.append((radius * half * share, radius * down))
    return points


def paint_balloon(
    draw: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, stripes: tuple[Colour, ...]
) -> None:
    """Draw one balloon: striped envelope, ropes, basket."""
    across, down = centre
    count = 12
    edges = [math.sin((index / count - 0.5) * math.pi) for index in range(count + 1)]
    for index in range(count):
        left = outline(radius, edges[index])
        right = outline(radius, edges[index + 1])
        shade = 1.06 - 0.36 * abs((index + 0.5) / count - 0.36)
        colour = tuple(min(255, int(part * shade)) for part in stripes[index % len(stripes)])
        points = [(across + x, down + y) for x, y in left + right[::-1]]
        draw.polygon(points, fill=colour)
    mouth = down + outline(radius, 1)[-1][1]
    basket_top, half = mouth + radius * 0.26, radius * 0.12
    rope = max(1, round(radius * 0.012))
    for side in (-1, 1):
        draw.line([(across + side * radius * 0.15, mouth), (across + side * half, basket_top)], fill=INK, width=rope)
    draw.rounded_rectangle(
        (across - half, basket_top, across + half, basket_top + radius * 0.19), radius * 0.04, fill=(120, 78, 46)
    )
    draw.rectangle((across - half, basket_top, across + half, basket_top + radius * 0.045), fill=(84, 52, 32))


def paint_bird(draw: ImageDraw.ImageDraw, centre: tuple[float, float], span: float) -> None:
    """Draw a bird far away: two arcs that meet."""
    across, down = centre
    steps = [step / 20 for step in range(-20, 21)]
    wings = [(across + span * step, down - span * 0.5 * math.sin(abs(step) * 2.6)) for step in steps]
    draw.line(wings, fill=INK, width=SCALE * 2, joint="curve")


def paint() -> Image.Image:
    """Return the whole picture."""
    width, height = WIDTH * SCALE, HEIGHT * SCALE
    picture = paint_sky(width, height)
    draw = ImageDraw.Draw(picture, "RGBA")
    draw.ellipse((width * 0.60, height * 0.50, width * 0.60 + height * 0.2, height * 0.70), fill=(255, 246, 214, 255))
    paint_hills(draw, width, height)
    for across, down, radius, stripes in BALLOONS:
        paint_balloon(draw, (across * width, down * height), radius * height, stripes)
    for across, down, span in BIRDS:
        paint_bird(draw, (across * width, down * height), span * width)
    return picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    paint().save(Path(sys.argv[1] if len(sys.argv) > 1 else "examples/input.png"), optimize=True)
