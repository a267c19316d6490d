"""Code that makes the same steps as earlier code, so that trainings from before it continue."""

# Fingerprint of the code of a training -> what stood in its place in the identity of trainings
# before. Both make the same steps bit by bit. Any change of that code has another fingerprint: its
# entry is of no use then and is deleted, and earlier trainings start again.
EARLIER_CODE = {
    # the flat layout, until commit 556babd
    "b0b4c67fdd7db8391efec8c57d9066c866b4bc6ec189987148c6f60ced0bf352": (
        "233321911fa87b5b811b0142fe3dfd568e02d804031df108b9a9ee6788d3f00d"
    ),
}
