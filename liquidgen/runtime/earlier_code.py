"""Code that makes the same steps as earlier code, so that trainings from before it continue."""

# Fingerprint of a training's code -> the digests used in its place by earlier trainings. All make
# the same steps bit for bit. Any change of that code has another fingerprint: its entry is of no
# use then and is deleted, and earlier trainings start again. The table is not in stages/train,
# because code cannot contain its own fingerprint.
EARLIER_CODE = {
    # the block `liquid`
    "91caa6ca6b45212fe6c53768d0639ef7dc1468689b06147e42219ea59a95c722": (
        "7d3ad25bf1cd4b5eaf892a63edb934bac35176108a8f0f03eee1b1d26aac8a9c",  # without variants
        "ccec86bb5eaea4bbb17d58b13699e25c342f6ad6b15f0c31137fa1882aebe876",  # without Batch
        "3a2aeb79fa4d439a347267709056ba01b254179dddb744d194eab8004a7f16b1",  # without Decay
        "233321911fa87b5b811b0142fe3dfd568e02d804031df108b9a9ee6788d3f00d",  # the flat layout
        "9d3ef069e1445e4d957d2f630f5ff10e10c58b0f2970f48fcb7f5aef6c73446b",  # without Muon
        "9897a26f63939f46690af67207151d89d0f444e1ec882ca215b021d3714926e3",  # without autocast()
    ),
    # the block `attention`
    "54da5ae6bbb8ebe168d80df87e639eeeb2d30e52caf37ddb2cae27471854b7b9": (
        "ad926eaa442c46c6994a7e00217f0f3b6bce27d07217ccb80c8e6cb4ce735ce1",  # without variants
        "36391c83a2cc1d088bfe9ca6bed421fb003f7c6181e82067753149c727acc1fe",  # without Batch
        "d142ff5ee4a5921e068a9f908fd729ba9983d0177e22bcd15d119977b5749378",  # without Decay
        "9e4dd1b0a123eac32be6815437d3678e354d7e6191d50e5eaff2c43e3727f576",  # without Muon
        "a49618d0a3a9f742973b29da2744de84131d4faff50fef4cda3ae9eda8f3b69f",  # without autocast()
    ),
}
