"""bakeoff beside its peers, on real CIFAR-100.

    pip install -c constraints.txt -e '.[dev]' -r benchmarks/peers/requirements.txt
    python -m benchmarks.peers [--only training evaluation fixed start memory data runs] [--models ...] [--peers ...]
                               [--classes shipped best same] [--rounds 5] [--seconds 2] [--report FILE] [--quick]

Contestants: bakeoff; a plain loop of torch and torchvision; Lightning; Ignite; Accelerate; transformers' Trainer;
timm's loader and optimizer. Each has a file here, with the same two functions: `train(task)` takes `task.steps` steps
and `evaluate(task)` looks at every picture once, by the library's own public means.

The same for all: the network (bakeoff's own, in the state it was built in; a peer's consists of torch's layers alone,
without bakeoff's kernels, as it would for the peer's users), the weights it begins with, the batch, the
loss, SGD with Nesterov momentum at a fixed rate, CIFAR-100 from one file on this disk, uncompiled. A peer counts only
where 20 steps without augmentation, in the same order, give bakeoff's losses: to 0.1 % in float32, to 1 % in bf16, or
to twice what bakeoff's own differ by where each weight begins one rounding beside its value.

Three classes, never mixed; bakeoff is in all of them as it is by default (bf16 where the processor has it,
channels-last, crop and flip of its own):

    shipped  the library's defaults: float32, torch's own layout, no worker process, the usual crop and flip of Pillow
             pictures one by one (timm: its own default augmentation), bars, logs and checkpoints as they come
    best     its documented switches: bf16, channels-last, bars, logs and checkpoints off, the fused optimizer, crop and
             flip of uint8 tensors by torchvision's second interface (timm: its own augmentation still), and of 0, 1 and
             2 persistent worker processes the number that is fastest here
    same     as `best`, with bakeoff's augmentation: a reflecting crop with 4 pixels of padding, and a flip

Protocol: each contestant is a process of its own, and all wait while one works. A round is raw, A, B, ..., raw, in an
order that rotates; its ends are raw steps in bakeoff's process. A turn is raw, work, raw in the contestant's own
process. "Raw" is the shortest step one can write: one batch in memory, the same network, precision, layout and
optimizer. A round is dropped for a contestant where any of these pairs differ by more than 10 %: the round's two ends,
its own two raws or, in a comparison, bakeoff's. Reported are medians of what is kept, with range and number; ratios are
formed inside rounds. A stopwatch on the network's `forward` takes the time, the same for all: from the call that begins
one step to the call that begins the step n later, inside an epoch. So setting up, worker processes that start and
checkpoints at the end of an epoch cost a peer nothing here; the parts `start`, `data` and `runs` show some of it.

Parts:

    training    images a second, and the share of the raw step in it
    evaluation  the same without gradients
    fixed       what remains with almost no network, at two batch sizes, on one thread: us an image, ms a step
    start       a new process, until its first optimizer step is done
    memory      the peak resident set of a new process that takes some steps
    data        5, 50 and 500 thousand pictures: images a second, seconds until the first step of `train`, peak memory
    runs        1, 2 and 4 runs: by bakeoff's study runner side by side and one after another; peers in processes, one
                after another, or two at a time with one thread each

Written after each part, to benchmarks/reports/: the numbers as JSON, with machine and versions; tables and pictures of
them, made by this code.
"""
