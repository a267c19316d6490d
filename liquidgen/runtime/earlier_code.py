"""Code that makes the same steps as earlier code, so that trainings from before it continue."""

# Fingerprint of a training's code -> the digest used in its place by earlier trainings. Both make
# the same steps bit by bit. Any change of that code has another fingerprint: its entry is of no use
# then and is deleted, and earlier trainings start again. The table is not in stages/train, because
# code cannot contain its own fingerprint.
EARLIER_CODE = {
    # the flat layout, until commit 556babd
    "9d3ef069e1445e4d957d2f630f5ff10e10c58b0f2970f48fcb7f5aef6c73446b": (
        "233321911fa87b5b811b0142fe3dfd568e02d804031df108b9a9ee6788d3f00d"
    ),
}
