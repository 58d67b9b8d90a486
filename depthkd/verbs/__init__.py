"""What can be typed after `depthkd`, one file a verb: each has `main(command) -> exit status`."""

VERBS = {
    "fit": "train a student: depthkd fit --config configs/cross_context.yaml",
    "validate": "run a config's validation once, on a checkpoint",
    "test": "score models and run folders under a protocol, with a table and pictures",
    "label": "depth of images in tar shards, predicted once by a teacher for many trainings",
    "predict": "depth of photographs, shards and videos: arrays, pictures, point clouds, films",
    "cost": "what models cost: parameters, multiply-adds, memory and latency, side by side",
    "export": "a network as a folder of transformers, an ONNX graph or a program of torch, with a model card",
    "replicate": "a paper's tables in miniature, seed by seed, with verdicts",
    "report": "runs and test results as one page: tables, curves, pictures, a point cloud",
    "demo": "a page on this machine that shows the depth of a photograph, and its point cloud",
    "pairs": "pairs of points on which models disagree, and a page for annotators (DA-2K)",
    "pointnet": "a PointNet that tells the embedded scenes' shapes apart, for geometric distillation",
    "doctor": "look at this machine, and at what a config needs of it: findings, and what to do",
    "configs": "what depthkd carries: configs by name, replications, scripts for SLURM",
    "shards": "pack, inspect and verify tar shards, or generate scenes into them",
}
