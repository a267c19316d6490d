"""Changes of params.yaml that make a whole pipeline run take seconds."""

SMALL_MODEL = {
    "width": [32, 64],
    "depth": [2, 2],
    "cond_dim": 32,
    "patch_size": 1,
    "optimizer": "muon",
    "learning_rate": 4e-3,
    "ema_decay": 0.998,
    "batch_size": 32,
}
SMALL = {
    "datasets.procedural.num_images": 120,
    "datasets.procedural.render_size": 32,
    "datasets.procedural.holdout_fraction": 0.2,
    "models.nano": SMALL_MODEL,
    "train.log_every": 1,
    "train.validate_every": 1,
    "train.preview_every": 1,
    "machine.num_workers": 0,
}
