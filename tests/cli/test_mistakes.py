"""Every mistake of a user ends in one message that says what to do, and exit code 2."""

import gzip
import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from fromscratch.data.compressed import zstd

# What is typed -> what the answer must contain: what is wrong, then how to mend it.
MISTAKES = {
    "unknown verb": (["trian"], ['"trian"', 'Did you mean "train"?']),
    "unknown option": (["train", "tiny.toml", "--rnu", "x"], ["--rnu", "--run"]),
    "unknown recipe": (["plan", "modern-12m"], ["no recipe", '"modern-124m"', "Shipped:"]),
    "unknown table": (["plan", "try", "optm.lr=1"], ["optm", 'Did you mean "optim"?']),
    "unknown key": (["plan", "try", "optim.lrr=1"], ["optim.lrr", 'Did you mean "optim.lr"?']),
    "key without its table": (["plan", "try", "lr=1"], ['Did you mean "optim.lr"?']),
    "not an override": (["plan", "try", "fast"], ["fast", "key=value"]),
    "value of the wrong type": (
        ["plan", "try", "train.steps=many"],
        ["train.steps", "whole number"],
    ),
    "value out of range": (["plan", "try", "model.dropout=1.5"], ["model.dropout", "less than 1"]),
    "a misspelt guard": (["plan", "try", "guard.spikez=8"], ['Did you mean "guard.spike_z"?']),
    "a guard without patience": (
        ["plan", "try", "guard.patience=0"],
        ["guard.patience", "greater than or equal to 1"],
    ),
    "heads that do not divide": (
        ["plan", "try", "model.d_model=128", "model.n_head=6"],
        ["n_head = 6", "1, 2, 4, 8, 16, 32, 64, 128"],
    ),
    "micro-batch that does not divide": (
        ["plan", "tiny.toml", "train.micro_batch=3"],
        ["train.micro_batch = 3", "1, 2, 4"],
    ),
    "a micro-batch that is neither": (
        ["plan", "tiny.toml", "train.micro_batch=atuo"],
        ["train.micro_batch = 'atuo'", '"auto"'],
    ),
    "a GPU that nobody knows": (
        ["plan", "tiny.toml", "--gpu", "rtx3909"],
        ['no GPU "rtx3909"', 'Did you mean "rtx3090"?'],
    ),
    "hours on no GPU": (
        ["plan", "minigpt-124m", "--hours", "3"],
        ["Nothing was measured", "--gpu rtx3090", "fromscratch bench"],
    ),
    "a budget without a price": (
        ["plan", "tiny.toml", "--gpu", "p100", "--dollars", "3"],
        ["No price", "--price 0.35"],
    ),
    "hours that are none": (
        ["plan", "tiny.toml", "--gpu", "a100", "--hours", "0"],
        ["--hours 0"],
    ),
    "a bench of no precision": (
        ["bench", "tiny.toml", "--precision", "bf61"],
        ['"bf61"', 'Did you mean "bf16"?'],
    ),
    "a bench of what does not divide": (
        ["bench", "tiny.toml", "--micro-batch", "3"],
        ["train.micro_batch = 3", "1, 2, 4"],
    ),
    "a bench of no numbers": (
        ["bench", "tiny.toml", "--micro-batch", "few"],
        ['--micro-batch "few"', "4,8,16"],
    ),
    "step not whole windows": (
        ["plan", "tiny.toml", "train.tokens_per_step=100"],
        ["multiple of model.context = 32", "96 or 128"],
    ),
    "two lengths": (
        ["plan", "two-lengths.toml"],
        ["train.steps and train.tokens"],
    ),
    "broken TOML": (["plan", "broken.toml"], ["broken is not valid TOML"]),
    "missing recipe file": (["plan", "nowhere.toml"], ["nowhere.toml", "No such file"]),
    "warmup longer than the run": (
        ["train", "tiny.toml", "schedule.warmup_steps=10", "--run", "new"],
        ["schedule.warmup_steps = 10", "Shorten"],
    ),
    "a phase out of order": (
        ["plan", "tiny.toml", "train.phase=[{from_step=4, clip=1}, {from_step=3, clip=0}]"],
        ["from step 3 on stands after one from step 4 on", "in the order"],
    ),
    "a phase from the start": (
        ["plan", "tiny.toml", "train.phase=[{from_step=1, clip=1}]"],
        ["from step 1 on is in force from the start", "[optim]"],
    ),
    "a phase that changes nothing": (
        ["plan", "tiny.toml", "train.phase=[{from_step=3}]"],
        ["from step 3 on changes nothing", "leave it out"],
    ),
    "a phase that goes nowhere": (
        ["plan", "tiny.toml", "train.phase=[{from_step=3, min_lr=1e-4}]"],
        ["min_lr = 0.0001, and no schedule", 'schedule = "linear"'],
    ),
    "a phase that decays what does not": (
        ["plan", "tiny.toml", 'train.phase=[{from_step=3, schedule="linear", decay_fraction=0.5}]'],
        ["decay_fraction, which only the schedule wsd has", 'schedule = "wsd"'],
    ),
    "a phase for Muon without one": (
        ["plan", "tiny.toml", "train.phase=[{from_step=3, muon_weight_decay=0.1}]"],
        ["muon_weight_decay, and this recipe has no Muon", "optim.name=muon"],
    ),
    "a misspelt key of a phase": (
        ["plan", "tiny.toml", "train.phase=[{from_step=3, clipp=1}]"],
        ["train.phase.clipp", 'Did you mean "train.phase.clip"?'],
    ),
    "a phase that raises the learning rate": (
        [
            "train",
            "tiny.toml",
            "optim.lr=1e-3",
            "schedule.name=linear",
            "--run",
            "new",
            'train.phase=[{from_step=5, schedule="linear", min_lr=9e-4}]',
        ],
        ["from step 5 on would raise the learning rate", "its min_lr is 0.0009", "Lower"],
    ),
    "half a momentum warmup": (
        ["plan", "tiny.toml", "schedule.momentum.start=0.85"],
        ["schedule.momentum.warmup_steps go together", "schedule.momentum.warmup_steps=300"],
    ),
    "an unknown shape of weight decay": (
        ["plan", "tiny.toml", "schedule.weight_decay.name=quadratic"],
        ["schedule.weight_decay.name = 'quadratic'", "'cosine', 'wsd', 'linear' or 'constant'"],
    ),
    "a number where a table is": (
        ["plan", "tiny.toml", "schedule.weight_decay=0.1"],
        ["schedule.weight_decay is a table", "schedule.weight_decay.name="],
    ),
    "data of another tokenizer": (
        ["train", "tiny.toml", "data.path=data-bpe-300", "--run", "new"],
        ['"bpe:300"', 'the recipe says "bytes"', "data.tokenizer=bpe:300"],
    ),
    "another vocabulary": (
        ["train", "tiny.toml", "model.vocab_size=500", "--run", "new"],
        ["257 ids", "model.vocab_size=257"],
    ),
    "a run that exists": (
        ["train", "tiny.toml", "--run", "run"],
        ["already exists", "fromscratch resume run"],
    ),
    "no space for the checkpoints": (
        ["train", "tiny.toml", "checkpoint.keep_last=1000000000", "--run", "new"],
        ["checkpoints of this run take up to", "GB free", "checkpoint.keep_last"],
    ),
    "no space for the checkpoints that are kept for ever": (
        ["train", "tiny.toml", "train.steps=1000000000", "checkpoint.keep_every=1", "--run", "new"],
        ["checkpoints of this run take up to", "GB free", "a larger checkpoint.keep_every"],
    ),
    "a temporary checkpoint at no known time": (
        ["train", "tiny.toml", "checkpoint.every_minutes=nan", "--run", "new"],
        ["checkpoint.every_minutes"],
    ),
    "another name for keeping checkpoints": (
        ["train", "tiny.toml", "checkpoint.keep_evry=100", "--run", "new"],
        ["checkpoint.keep_evry", "checkpoint.keep_every"],
    ),
    "no data": (["train", "no-data.toml", "--run", "new"], ["what to train on", "data.path="]),
    "data that does not exist": (
        ["train", "tiny.toml", "data.path=txt", "--run", "new"],
        ["txt does not exist", "folder"],
    ),
    "interrupted prepare": (
        ["train", "tiny.toml", "data.path=interrupted", "--run", "new"],
        ["interrupted", "fromscratch prepare text"],
    ),
    "an absent device": (
        ["train", "tiny.toml", "train.device=cuda:7", "--run", "new"],
        ["cuda:7", "train.device=auto"],
    ),
    "a misspelt device": (
        ["train", "tiny.toml", "train.device=cdua", "--run", "new"],
        ["cdua", 'Did you mean "cuda"?'],
    ),
    "an engine of another optimiser": (
        ["train", "tiny.toml", "optim.engine=torchao", "--run", "new"],
        ["optim.engine", 'no effect with optim.name = "adamw"', "optim.name=adamw8bit"],
    ),
    "an unknown precision": (
        ["plan", "tiny.toml", "train.precision=fp8"],
        ["train.precision", "'fp8'", "'bf16'"],
    ),
    "a loss scale that rounds": (
        ["train", "tiny.toml", "train.loss_scale.initial=1000", "--run", "new"],
        ["train.loss_scale.initial = 1,000", "512 or 1024"],
    ),
    "no loss scale": (
        ["train", "tiny.toml", "train.precision=fp16", "train.loss_scale.initial=0"],
        ["train.loss_scale.initial", "greater than or equal to 1"],
    ),
    "resume of what is no run": (["resume", "text"], ["text is not a run", "fromscratch train"]),
    "report of what is no run": (["report", "text"], ["text is not a run"]),
    "not a checkpoint": (["generate", "text", "hi"], ["not a checkpoint", "config.json"]),
    "no such model": (["generate", "runs/nowhere", "hi"], ["does not exist", "Hugging Face"]),
    "a sequence longer than the context": (
        ["generate", "run", "hello", "--max-new-tokens", "28", "--no-slide"],
        ["5 tokens of prompt and 28 new ones", "context of 32", "fewer new tokens"],
    ),
    "a negative temperature": (
        ["generate", "run", "hi", "--temperature", "-1"],
        ["temperature", "from 0 (greedy) up"],
    ),
    "prepare of nothing": (["prepare", "nowhere", "--out", "x"], ["nowhere does not exist"]),
    "prepare of binary files": (
        ["prepare", "binary", "--out", "x"],
        ["no text in binary", "picture.png: binary"],
    ),
    "prepare over prepared data": (
        ["prepare", "text", "--out", "data-bytes"],
        ["already holds prepared data", "--overwrite"],
    ),
    "prepare over something else": (
        ["prepare", "text", "--out", "binary"],
        ["not empty", "nothing was touched"],
    ),
    "no validation by accident": (
        ["prepare", "text", "--out", "x", "--val-fraction", "0"],
        ["validation set", "--no-validation"],
    ),
    "an unknown tokenizer": (
        ["prepare", "text", "--out", "x", "--tokenizer", "gpt3"],
        ['"gpt3"', 'Did you mean "gpt2"?'],
    ),
    "a vocabulary too small": (
        ["tokenizer", "train", "text", "--vocab-size", "100", "--out", "x"],
        ["at least 257", "bpe:4096"],
    ),
    "a sample that is no size": (
        ["tokenizer", "train", "text", "--sample", "lots", "--out", "x"],
        ['"lots" is not a size', "200MB"],
    ),
    "a special token twice": (
        ["tokenizer", "train", "text", "--special", "<|a|>", "--special", "<|a|>", "--out", "x"],
        ['"<|a|>" is there twice'],
    ),
    "a comparison of what is no tokenizer": (
        ["tokenizer", "compare", "text", "--candidates", "bytes,gpt3"],
        ['"gpt3"', 'Did you mean "gpt2"?'],
    ),
    "a comparison with nothing held out": (
        ["tokenizer", "compare", "text", "--candidates", "bytes", "--val-fraction", "0"],
        ["Nothing was held out", "--val-fraction"],
    ),
    "try of an empty folder": (["try", "--data", "empty"], ["no text in empty"]),
    "try of a path without --data": (["try", "text"], ["text is a path", "--data PATH"]),
    "try of too short a text": (["try", "--data", "tiny.toml"], ["too short", "Give more"]),
    "try over a run that exists": (["try", "--run", "run"], ["already exists"]),
    "minutes that are no number": (["try", "--minutes", "nan"], ["--minutes nan"]),
    "a seed beyond reason": (["generate", "run", "--seed", "9" * 20], ["seed 999", "2**63"]),
    "a table without a key": (["plan", "try", "optim=3"], ["optim is a table", "optim.name"]),
    "a number with a unit": (["plan", "try", "train.steps=10k"], ["10k", "10_000"]),
    "a step beyond reason": (
        ["train", "tiny.toml", "train.tokens_per_step=3_200_000_000", "--run", "new"],
        ["tokens_per_step = 3,200,000,000", "times in one step"],
    ),
    "a look into what is not prepared": (
        ["data", "show", "text"],
        ["text is not prepared data", "fromscratch prepare"],
    ),
    "a look at no context": (["data", "show", "data-bytes", "--context", "0"], ["--context 0"]),
    "a picture nowhere": (
        ["data", "show", "data-bytes", "--picture", "nowhere/x.png"],
        ["nowhere/x.png cannot be written", "folder that exists"],
    ),
    "a doctor with nothing to look at": (["doctor"], ["not told what to look at", "modern-124m"]),
    "a doctor on a mistyped recipe": (["doctor", "moddern-124m"], ['Did you mean "modern-124m"?']),
    "a doctor on a folder of texts": (
        ["doctor", "text"],
        ["no prepared data, no run and no model"],
    ),
    "a doctor on a run with overrides": (
        ["doctor", "run", "optim.lr=1"],
        ["optim.lr=1 is not a folder", "recipe"],
    ),
    "a regret that nobody has": (["doctor", "--explain", "R99"], ["R01 to R57"]),
    "an evaluation set that is not there": (
        ["doctor", "data-bytes", "--against", "nowhere.json"],
        ["nowhere.json cannot be read", "No such file"],
    ),
    "an evaluation set without text": (
        ["doctor", "data-bytes", "--against", "numbers.jsonl"],
        ["numbers.jsonl line 1 has no text", "question, answer"],
    ),
    "an n-gram of one word": (
        ["doctor", "data-bytes", "--against", "tiny.toml", "--ngram", "1"],
        ["--ngram 1", "13"],
    ),
    "try for no time": (["try", "--minutes", "0"], ["--minutes 0"]),
    **{
        f"prepare of {name}": (
            ["prepare", f"bad/{name}", "--out", "x", "--tokenizer", "bytes", "--no-validation"],
            [f"bad/{name}{place}", *expected, "--on-bad skip"],
        )
        for name, (place, *expected) in {
            "latin1.txt": (", byte 4: not UTF-8", "iconv"),
            "utf16.txt": (", byte 0: is UTF-16, not UTF-8", "iconv -f UTF-16"),
            "picture.png": (": is binary, not text",),
            "cut.txt.gz": (
                ", after 500 bytes of its content: the gzip file is cut off",
                "Download",
            ),
            "cut.txt.zst": (": the zstd file is cut off", "Download"),
            "line.jsonl": (", line 2, column 10: not JSON", "Each line"),
            "field.jsonl": (', line 2: has no field "text"; it has body', "--field"),
            "instructions.json": (', record 1: has no field "text"', "--render alpaca"),
            "column.parquet": (': has no field "text"; it has body, n', "--field"),
            "cut.parquet": (": damaged, or not a Parquet file", "Download"),
            "magic.bin": (", byte 0: has a header with the magic number 20240522", "20240520"),
            "count.bin": (", byte 8: the header says 9 tokens, and the file holds 2",),
            "ids.npy": (", token 1: the id 300 is beyond the vocabulary of 257", "--tokenizer"),
        }.items()
    },
    "prepare of two standard inputs": (
        ["prepare", "-", "b=-.jsonl", "--out", "x"],
        ["Standard input can be one source only"],
    ),
    "workers without tasks": (
        ["prepare", "text", "--out", "x", "--workers", "2"],
        ["--workers is said of parts", "--parts 8"],
    ),
    "tasks and a part": (
        ["prepare", "text", "--out", "x", "--parts", "2", "--part", "0/2"],
        ["--parts makes all parts", "Leave one"],
    ),
    "Slurm's option for this machine": (
        ["prepare", "text", "--out", "x", "--parts", "2", "--slurm-partition", "cpu"],
        ["--slurm-partition has no effect", "--executor slurm"],
    ),
    "Slurm without a time": (
        ["prepare", "text", "--out", "x", "--parts", "2", "--executor", "slurm"],
        ["how long one may take", "--slurm-time 4:00:00"],
    ),
    "tasks of nothing": (
        ["prepare", "empty", "--out", "x", "--parts", "2"],
        ["no text in empty"],
    ),
    "tasks with an unknown tokenizer": (
        ["prepare", "text", "--out", "x", "--tokenizer", "gpt3", "--parts", "2"],
        ['Did you mean "gpt2"?'],
    ),
    "prepare of an unknown part of the library": (
        ["prepare", "stdlib:asynco", "--out", "x"],
        ['"asynco"', 'Did you mean "stdlib:asyncio"?'],
    ),
    "a source that a stage forgets": (
        ["plan", "mixed.toml", "data.stage=[{from_tokens=500, weights={a=1}}]"],
        ["from 500 tokens on", 'no weight for "b"', "b = 0"],
    ),
    "a stage for what is no source": (
        ["plan", "mixed.toml", "data.stage=[{from_tokens=500, weights={a=1, b=1, bb=1}}]"],
        ['"bb"', "not a source", 'Did you mean "b"?'],
    ),
    "a stage from the start without a blend": (
        ["plan", "mixed.toml", "data.stage=[{weights={a=1, b=2}}]"],
        ["the weights of the sources never are", "from_tokens or blend_tokens"],
    ),
    "stages in the wrong order": (
        [
            "plan",
            "mixed.toml",
            "data.stage=[{from_tokens=500, weights={a=1, b=2}}, "
            "{from_tokens=400, weights={a=1, b=3}}]",
        ],
        ["from 400 tokens on stands after one from 500", "in the order"],
    ),
    "a blend that goes on in the next stage": (
        [
            "plan",
            "mixed.toml",
            "data.stage=[{from_tokens=100, weights={a=1, b=2}, blend_tokens=500}, "
            "{from_tokens=400, weights={a=1, b=3}}]",
        ],
        ["from 400 tokens on begins before the blend", "at 600", "at most 300 tokens"],
    ),
    "a stage without any weight": (
        ["plan", "mixed.toml", "data.stage=[{from_tokens=100, weights={a=0, b=0}}]"],
        ["[0.0, 0.0]", "not all zero"],
    ),
    "a weight that is no number": (
        ["plan", "mixed.toml", "data.stage=[{from_tokens=100, weights={a=nan, b=1}}]"],
        ["data.stage.0.weights.a"],
    ),
    "a source that runs out": (
        ["train", "mixed.toml", "train.steps=4000", "--run", "new"],
        ['source "a" has', "times: its max_epochs is 3", "train.tokens=", "a weight of"],
    ),
    "a picture of no mixture": (
        ["plan", "try", "--picture", "mix.png"],
        ['"try" mixes nothing', "[[data.source]]"],
    ),
    "a picture in no folder": (
        ["plan", "mixed.toml", "--picture", "nowhere/mix.png"],
        ["nowhere/mix.png cannot be written", "No such file"],
    ),
    "a sweep of an unknown key": (
        ["sweep", "tiny.toml", "optim.lrr=1,2", "--out", "new"],
        ["optim.lrr", 'Did you mean "optim.lr"?'],
    ),
    "a sweep of nothing": (
        ["sweep", "tiny.toml", "optim.lr=1e-3", "--out", "new"],
        ["Nothing is swept", "optim.lr=1e-4,3e-4,1e-3"],
    ),
    "a sweep with an empty value": (
        ["sweep", "tiny.toml", "optim.lr=1e-3,,1e-2", "--out", "new"],
        ["empty value", "optim.lr=a,b,c"],
    ),
    "a sweep with no values": (
        ["sweep", "tiny.toml", "optim.lr=", "--out", "new"],
        ["empty value", "optim.lr=a,b,c"],
    ),
    "a sweep with an open quote": (
        ["sweep", "tiny.toml", 'sample.prompts=["a, b],["c"]', "--out", "new"],
        ["open quote", "single quotes"],
    ),
    "a sweep of a value twice": (
        ["sweep", "tiny.toml", "optim.lr=1e-3,1e-3", "--out", "new"],
        ["1e-3 twice"],
    ),
    "a sweep of unequal lengths": (
        ["sweep", "tiny.toml", "train.tokens_per_step=128,256", "--out", "new"],
        ["would train on more text", "train.tokens=768"],
    ),
    "a sweep of what does not go together": (
        ["sweep", "tiny.toml", "model.n_head=2,3", "--out", "new"],
        ["With model.n_head=3", "1, 2, 4, 8, 16"],
    ),
    "a grid of a range": (
        ["sweep", "tiny.toml", "optim.lr=1e-4:1e-2:log", "--out", "new"],
        ["a grid has no end", "--sampler tpe"],
    ),
    "draws without a number": (
        ["sweep", "tiny.toml", "optim.lr=1e-4:1e-2:log", "--sampler", "tpe", "--out", "new"],
        ["how many", "--trials 20"],
    ),
    "a sampler that is not there": (
        ["sweep", "tiny.toml", "optim.lr=1e-4,1e-2", "--sampler", "tpa", "--out", "new"],
        ['"tpa"', 'Did you mean "tpe"?'],
    ),
    "a sweep where something else is": (
        ["sweep", "tiny.toml", "optim.lr=1e-4,1e-2", "--out", "text"],
        ["text is not empty", "--out"],
    ),
    "a look at what is no sweep": (
        ["sweep", "--show", "text"],
        ["text is not a sweep", "fromscratch sweep RECIPE"],
    ),
    "a tracker's key that is not there": (
        ["train", "tiny.toml", "track.wandb_projekt=x", "--run", "new"],
        ['Did you mean "track.wandb_project"?'],
    ),
    "many processes of a sweep": (
        ["sweep", "tiny.toml", "optim.lr=1e-3,1e-2", "--out", "new"],
        ["without torchrun", "once for each device"],
    ),
    "many processes": (["train", "tiny.toml", "--run", "new"], ["torchrun", "2 processes"]),
    "a judge without a scheme": (
        ["judge", "run", "--test", "numbers.jsonl", "--judge", "localhost/v1", "--model", "m"],
        ['"localhost/v1" is no address of a judge', "http://localhost:11434/v1"],
    ),
    "a judge of what asks nothing": (
        ["judge", "run", "--test", "numbers.jsonl", "--judge", "http://x/v1", "--model", "m"],
        ["numbers.jsonl line 1", "instruction, input and output"],
    ),
    "an eval of no model": (["eval", "runs/nowhere"], ["runs/nowhere does not exist", "ORG/NAME"]),
    "an eval beyond the context": (
        ["eval", "run", "--context", "64"],
        ["--context 64 is more than the context of run, 32", "--context 32 or less"],
    ),
    "logs that are none": (
        ["logs", "import", "tiny.toml", "--out", "new"],
        ["tiny.toml no known log (it begins:", "--format", "trainer-state"],
    ),
    "logs that are not there": (
        ["logs", "import", "train.log", "--out", "new"],
        ["train.log does not exist"],
    ),
    "logs into somebody's folder": (
        ["logs", "import", "run/metrics.jsonl", "--out", "text"],
        ["text is there already, and is no import", "--out"],
    ),
    "logs of an unknown format": (
        ["logs", "import", "run/metrics.jsonl", "--out", "new", "--format", "nanogtp"],
        ['no log format "nanogtp"', 'Did you mean "nanogpt"?'],
    ),
    "logs into no folder": (
        ["logs", "import", "run/metrics.jsonl", "--out", "tiny.toml/run"],
        ["tiny.toml/run cannot be written", "--out"],
    ),
    "logs without that part": (
        ["logs", "import", "run/metrics.jsonl", "--out", "new", "--which", "3"],
        ["--which 3", "one run"],
    ),
    "a landscape without a middle": (
        ["report", "run", "--landscape", "--landscape-points", "20"],
        ["--landscape-points 20", "odd", "for example 21"],
    ),
    "a landscape without an extent": (
        ["report", "run", "--landscape", "--landscape-range", "0"],
        ["--landscape-range 0", "for example 1.0"],
    ),
    "several runs, and nowhere to write": (
        ["report", "run", "run"],
        ["none of their folders", "--out report.html"],
    ),
    "a report that is served and written": (
        ["report", "run", "--watch", "--out", "x.html"],
        ["writes nothing", "Leave out --out"],
    ),
    "a port for a file": (["report", "run", "--port", "80"], ["--port is for --watch"]),
    "a report into a folder that is not there": (
        ["report", "run", "--out", "nowhere/x.html"],
        ["nowhere/x.html", "Make it first"],
    ),
    "watching what is no run": (["watch", "text"], ["text is not a run", "fromscratch train"]),
    "a HellaSwag that is not there": (
        [
            "train",
            "tiny.toml",
            "eval.hellaswag_every=2",
            "eval.hellaswag=gone.jsonl",
            "--run",
            "new",
        ],
        ["eval.hellaswag", "gone.jsonl", "hf:Rowan/hellaswag"],
    ),
    "serving to others without a token": (
        ["serve", "run", "--host", "0.0.0.0"],
        ["--host 0.0.0.0", "anybody could use the model", "--api-token"],
    ),
    "a token that is none": (
        ["serve", "run", "--api-token", " "],
        ["token is empty", "openssl rand"],
    ),
    "an address of another machine": (
        ["serve", "run", "--host", "203.0.113.7", "--api-token", "abc", "--port", "0"],
        ["203.0.113.7", "cannot be listened on", "--port"],
    ),
    "serving what is no model": (["serve", "text"], ["text is not a checkpoint", "Name a run"]),
    "a misspelt chat template": (
        ["serve", "run", "--template", "chatlm"],
        ['no chat template "chatlm"', 'Did you mean "chatml"?'],
    ),
    "a chat template whose tokens the model lacks": (
        ["serve", "run", "--template", "chatml"],
        ['no special token "<|im_end|>"', "Finetune"],
    ),
    "a queue too short for a request": (
        ["serve", "run", "--queue", "4"],
        ["16 texts would never fit", "--max-texts"],
    ),
    "finetuning without a model": (
        ["train", "sft-110", "data.path=some.json"],
        ["sft-110 finetunes a model", "train sft-110 --from MODEL"],
    ),
    "a model that is not there": (
        ["train", "sft-110", "--from", "runs/nowhere"],
        ["runs/nowhere does not exist", "Name a run"],
    ),
    "chat settings of a pretraining": (
        ["plan", "try", "chat.loss_on=all"],
        ['chat has no effect with train.objective = "pretrain"', "train.objective=sft"],
    ),
    "examples in packed rows": (
        ["plan", "try", "chat.examples_per_step=8"],
        ["chat.packing puts many into a row", "chat.packing=false"],
    ),
    "patience without validations": (
        ["plan", "try", "eval.patience=3", "eval.every=0"],
        ["eval.patience", "eval.every = 0", "Say eval.every"],
    ),
    "a misspelt loss": (
        ["plan", "try", "chat.loss_on=assistnat"],
        ["chat.loss_on", "'assistant' or 'all'"],
    ),
    "a base by hand": (
        ["plan", "try", "base.model=runs/one"],
        ["[base] is written by a run", "--from MODEL"],
    ),
    "an export to nothing known": (
        ["export", "run", "--to", "gfuf", "--out", "new"],
        ['"gfuf"', 'Did you mean "gguf"?'],
    ),
    "an export type of no kind": (
        ["export", "run", "--to", "gguf", "--out", "new", "--type", "q8"],
        ['"q8"', 'Did you mean "q8_0"?'],
    ),
    "an option of another export": (
        ["export", "run", "--to", "hf", "--out", "new", "--type", "f16"],
        ["--type is for --to gguf"],
    ),
    "an export that cannot say how text is cut": (
        ["export", "run", "--to", "gguf", "--out", "new"],
        ["no merges", "bpe:N:gpt2"],
    ),
    "an export over what is there": (
        ["export", "run", "--to", "hf", "--out", "text"],
        ["text is there already", "--out"],
    ),
    "an export with a template it was not trained with": (
        ["export", "run", "--to", "hf", "--out", "new", "--template", "chatml"],
        ["<|im_start|>", "not finetuned"],
    ),
    "a push to half a name": (
        ["export", "run", "--to", "hf", "--out", "new", "--push", "moby"],
        ['"moby"', "ORG/NAME"],
    ),
    "public without a push": (
        ["export", "run", "--to", "hf", "--out", "new", "--public"],
        ["--push"],
    ),
    "an import of nothing": (
        ["import", "nowhere.pt", "--out", "new"],
        ["nowhere.pt is not a file"],
    ),
    "an import of a picture": (
        ["import", "bad/picture.png", "--out", "new"],
        ["cannot be read as a checkpoint"],
    ),
    "a ladder without a budget": (
        ["scale", "tiny.toml", "--out", "new"],
        ["is given nothing", "fromscratch scale tiny.toml --budget 1h"],
    ),
    "a budget that is no time": (
        ["scale", "tiny.toml", "--budget", "soon", "--out", "new"],
        ['"soon" is not a time', "1h30m"],
    ),
    "a ladder for a GPU that nobody knows": (
        ["scale", "tiny.toml", "--budget", "1h", "--gpu", "rtx3909", "--out", "new"],
        ['no GPU "rtx3909"', 'Did you mean "rtx3090"?'],
    ),
    "a ladder where something else is": (
        ["scale", "tiny.toml", "--budget", "1h", "--out", "text"],
        ["text is not empty", "--out"],
    ),
    "a ladder of phases": (
        ["scale", "tiny.toml", "train.phase=[{from_step=3, clip=1}]", "--budget", "1h"],
        ["[[train.phase]], bound to one length", "without [[train.phase]]"],
    ),
    "a ladder on many processes": (
        ["scale", "tiny.toml", "--budget", "1h", "--out", "new"],
        ["without torchrun", "once for each device"],
    ),
    "a prediction by what is no ladder": (
        ["train", "tiny.toml", "--scale", "text", "--run", "new"],
        ["text has no fitted law", "fromscratch scale RECIPE --budget 1h"],
    ),
}


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


BAD_FILES: dict[str, bytes] = {
    "latin1.txt": "Stra\xdfe".encode("latin-1"),
    "utf16.txt": "Text".encode("utf-16"),
    "picture.png": b"\x89PNG\r\n\x1a\n\x00\x00",
    "cut.txt.gz": gzip.compress(b"text " * 100)[:-5],
    "cut.txt.zst": zstd.compress(b"text " * 100)[:-5],
    "line.jsonl": b'{"text": "good"}\n{"text": "cut off\n',
    "field.jsonl": b'{"text": "good"}\n{"body": "other"}\n',
    "instructions.json": b'[{"instruction": "Add.", "output": "2"}]',
    "cut.parquet": b"PAR1 and no more",
    "magic.bin": struct.pack("<256i", 20240522, 1, 2, *[0] * 253) + b"abcd",
    "count.bin": struct.pack("<256i", 20240520, 1, 9, *[0] * 253) + b"abcd",
    "ids.npy": _npy(np.array([65, 300, 256], np.uint16)),
}


@pytest.fixture(scope="module", autouse=True)
def _things_to_stumble_over(place: Path) -> None:
    (place / "binary").mkdir()
    (place / "binary/picture.png").write_bytes(b"\x00\x01\x02")
    (place / "bad").mkdir()
    for name, content in BAD_FILES.items():
        (place / "bad" / name).write_bytes(content)
    table = pyarrow.table({"body": ["a", "b"], "n": [1, 2]})
    pyarrow.parquet.write_table(table, place / "bad/column.parquet")
    (place / "empty").mkdir()
    (place / "broken.toml").write_text("model = {")
    recipe = (place / "tiny.toml").read_text()
    (place / "no-data.toml").write_text(recipe.replace('path = "data-bytes"', ""))
    (place / "two-lengths.toml").write_text(
        recipe.replace("steps = 6", "steps = 6\ntokens = 1_000")
    )
    (place / "numbers.jsonl").write_text('{"score": 1}\n')
    two = 'source = [{name="a", path="text", max_epochs=3}, {name="b", path="more"}]'
    (place / "mixed.toml").write_text(recipe.replace('path = "data-bytes"', two))
    (place / "more").mkdir()
    for i in range(120):
        (place / f"more/{i}.txt").write_text(f"More of {i}.")
    (place / "interrupted").mkdir()
    (place / "interrupted/INCOMPLETE").write_text("fromscratch prepare text --out interrupted\n")


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_its_fix(mistake: str, fromscratch: Callable, place: Path):
    arguments, expected = MISTAKES[mistake]
    environment = {"RANK": "0", "WORLD_SIZE": "2"} if "many processes" in mistake else {}
    answer = fromscratch(*arguments, **environment)
    assert answer.code == 2, answer
    for fragment in expected:
        assert fragment in answer.err
    assert "Traceback" not in answer.err
    assert len(answer.err.strip().split("\n")) <= 5, "a message, not a page"
    assert not (place / "new").exists(), "nothing was begun"
    assert not (place / "x-parts").exists(), "nothing was begun"
