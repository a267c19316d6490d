"""Code that makes the same steps as earlier code, so that trainings from before it continue."""

# Fingerprint of a training's code -> the digest used in its place by earlier trainings. Both make
# the same steps bit by bit. Any change of that code has another fingerprint: its entry is of no use
# then and is deleted, and earlier trainings start again. The table is not in stages/train, because
# code cannot contain its own fingerprint.
EARLIER_CODE = {
    # the flat layout, until commit 556babd
    "0c4e0bd10747db5e090c436c0e35babe1b06bff1af4e614cc80006f6f9936f84": (
        "233321911fa87b5b811b0142fe3dfd568e02d804031df108b9a9ee6788d3f00d"
    ),
}
