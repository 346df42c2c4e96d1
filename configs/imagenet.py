"""ImageNet with ResNet50: the usual recipe, images read from disk.

Command: prepare imagenet2012 with TFDS (it is not free to download: image-net.org), then
         diet-jax run configs/imagenet.py --data.data-dir DIR
Figure:  none in the paper, which stops at CIFAR-100 and CINIC-10.
Time:    needs accelerators; never run here on ImageNet itself. What was run is this recipe for a few steps on
         JPEGs of ImageNet's sizes: see "Tried" below.
Published: all images .764 top-1 with this network, length and batch-size rule, but rates in steps (Goyal et
         al. 2017, table 1: 23.60 % error). Not ours.

The recipe: 90 epochs, rate 0.1 for every 256 examples of a batch, linear warm-up over 5 epochs, cosine decay
to 0, SGD with Nesterov momentum 0.9, random resized crop of 224 pixels and flip, L2 of 1e-4, the last
BatchNorm scale of each block starting at 0, computed in bfloat16 with parameters, statistics and scores in
float32. 5,004 steps an epoch, 450,360 in all. On several devices: --train.batch-size 1024
--train.learning-rate 0.4.

L2 reaches every parameter here, BatchNorm's scales and biases too, as in PyTorch's reference training; Goyal
et al. leave BatchNorm out. Convolutions and the max-pool pad by 'SAME', unlike PyTorch's.

Scores are of epoch 9, a tenth of the training as epoch 20 of 200 is in the paper's CIFAR-10, and means over 4
seeds: both are choices, not results. Test accuracy is that of the validation split (TFDS's test split has no
labels). With 3 fractions and two scores it is 4 trainings of 9 epochs and 20 of 90; to score only:
diet-jax score configs/imagenet.py.

Tried: python benchmarks/image_folder.py FOLDER --classes 2 --train 64 --test 16
       diet-jax run configs/imagenet.py --data.name folder:FOLDER --data.workers 2 --train.steps 4
         --train.batch-size 8 --score.epoch 0.25 --score.num-seeds 1 --score.names el2n
         --checkpoint-epochs 0.5 --select.fractions 0.9 --retrain.num-seeds 1
       The whole ResNet50 on 224 pixels in bfloat16: 2 steps, EL2N of 64 images, 3 trainings of 4 steps, a
       checkpoint and the table took 6 min 50 s on two cores of an AMD EPYC that other work filled (3 min of
       processor time), 3.2 GiB at most. That says that it runs, not how fast or well.
"""

from diet_jax.experiments.config import (
    DataConfig,
    ModelConfig,
    RetrainConfig,
    RunConfig,
    ScoreConfig,
    SelectConfig,
)
from diet_jax.training.recipe import TrainConfig

CONFIG = RunConfig(
    data=DataConfig(name="imagenet2012", streaming=True, image_size=224, workers=8),
    model=ModelConfig(name="resnet50", stem="imagenet", dtype="bfloat16"),
    train=TrainConfig(
        epochs=90,
        batch_size=256,
        learning_rate=0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-4,
        schedule="cosine",
        warmup=5 / 90,
        augment="resized_crop",
    ),
    score=ScoreConfig(names=("el2n", "grand"), epoch=9, num_seeds=4),
    select=SelectConfig(fractions=(0.5, 0.7, 0.9)),
    retrain=RetrainConfig(num_seeds=2),
    checkpoint_epochs=(9, 30, 60, 90),
)
