"""Regrets about data: what a model is trained on, in which order, and what is held out."""

from __future__ import annotations

from fromscratch.doctor.regret import Regret

DATA: tuple[Regret, ...] = (
    Regret(
        "R01",
        "An abrupt switch of corpora",
        "warned",
        "Halfway through, the training text is replaced by another. The loss jumps, and within "
        "some hundred steps the model has unlearned what it knew of the first text.",
        "A source's share that jumps between stages is warned of before the run, with the number. "
        "[[data.stage]] blend_tokens=N goes from one mixture to the next in a straight line.",
    ),
    Regret(
        "R02",
        "Data that starts over with every restart",
        "impossible",
        "After each restart the loader begins at the first file again. The beginning of the "
        "corpus is fed five times, its end never, and no log shows it.",
        "The n-th window of a run is a function of the data, data.seed and n; a checkpoint holds "
        "n. A run that was killed goes on with the window after the last one it learned from.",
    ),
    Regret(
        "R03",
        "New tokens that are the old ones",
        "warned",
        "A second session is announced as so many fresh tokens. They are the same tokens in the "
        "same order, and the better training loss is memory.",
        "Every checkpoint records of which text, by fingerprint, how much was consumed. Starting a "
        "run with --from a model that has read the same text says so, with how often; "
        "data.seed chooses another order. `report` shows the epochs of every source.",
    ),
    Regret(
        "R04",
        "No validation set",
        "impossible",
        "All text is trained on, and only the training loss is watched. Whether the model learns "
        "or memorises cannot be known afterwards.",
        "`prepare` always holds documents out (--val-fraction). Only --no-validation does not, and "
        "the doctor then warns.",
        besides="warned",
    ),
    Regret(
        "R05",
        "Validation on the tail of one file",
        "impossible",
        "The last tenth of the file is held out. Its chapter, its names and its words occur "
        "nowhere in training, so the validation loss measures the difference of the texts.",
        "Each document is held out or not by a hash of its content, so what is held out is spread "
        "over the whole corpus. One long text is cut into passages first.",
    ),
    Regret(
        "R06",
        "The same document on both sides of the split",
        "impossible",
        "A crawl holds many texts twice. Copies land in training and in validation, and the "
        "validation loss is a measure of memory.",
        "A copy has the hash, and so the side, of its original. Near copies across the split are "
        "counted by `data show`, and `prepare --dedup near` leaves them out.",
        besides="warned",
    ),
    Regret(
        "R07",
        "Random windows, drawn with replacement",
        "impossible",
        "Each batch starts at random places. After an epoch's worth of tokens a third of the text "
        "has not been seen at all, and some of it three times.",
        "An epoch is a permutation: every token is a target exactly once. The permutation is "
        "computed by position, so it takes no memory however large the corpus.",
    ),
    Regret(
        "R08",
        "Long documents read from beginning to end",
        "impossible",
        "Consecutive windows come from the same book. Every batch is of one domain, the model "
        "follows it to and fro, and the loss stands still.",
        "Windows are permuted over the whole source, and every epoch has another order and other "
        "cuts. No option turns that off.",
    ),
    Regret(
        "R09",
        "<|endoftext|> inside a document",
        "impossible",
        "A web page speaks about language models and spells their end-of-text token. The tokenizer "
        "raises in the middle of the night, or takes it for a real end.",
        "Text is encoded as text: no string in a document becomes a special token. `data show` "
        "counts documents that hold such strings, because they may be left-overs of an export.",
    ),
    Regret(
        "R10",
        "The last shard that was never written",
        "impossible",
        "Preparation writes full shards only, and the rest is lost; or it is interrupted after six "
        "hours, and the second attempt starts over beside the leavings of the first.",
        "The last shard is written however small it is. The same `prepare` command goes on where a "
        "kill has stopped it, and its output is that of one that was not stopped.",
    ),
    Regret(
        "R11",
        "Tokens counted from the size of a file",
        "impossible",
        "The number of tokens is the number of bytes over two, header included. Every count that "
        "follows from it is a little wrong, and the last batch reads past the end.",
        "The manifest of prepared data counts what was written, by shard, and opening the data "
        "compares it with the files.",
    ),
    Regret(
        "R12",
        "A corpus in a Python list",
        "impossible",
        "All documents, or all their lengths, are collected in memory first. It works for the "
        "sample, and dies after hours on the real corpus.",
        "`prepare` and `data show` read and write in pieces: their memory does not grow with the "
        "corpus.",
    ),
    Regret(
        "R13",
        "Prepared data that is out of date",
        "refused",
        "The text was cleaned, and the run still trains on the shards that were made before. "
        "Nobody finds out why the cleaning did not help.",
        "A recipe that names text prepares it anew when a file has changed. A run that is resumed "
        "on data other than its own is refused, and an override of data.path says that it is "
        "meant.",
        besides="warned",
    ),
    Regret(
        "R14",
        "Chunks beyond the number of GPUs, dropped",
        "impossible",
        "Each process takes every n-th chunk, and what does not divide is dropped in silence. With "
        "another number of GPUs the run is another run.",
        "Windows are numbered for the whole run and then shared out: the batch of a step is the "
        "same whatever the number of processes and the micro-batch.",
    ),
    Regret(
        "R15",
        "Too few tokens for the model, or far too many",
        "warned",
        "A model of 124 million parameters is trained on ten million tokens, or a tiny one for a "
        "week. Both could have been known from the first minute.",
        "`plan`, `doctor` and the start of a run compare the run's tokens with some twenty a "
        "parameter (Hoffmann et al. 2022), and say which model or which number of tokens would "
        "fit: model.n_layer, model.d_model, train.tokens.",
    ),
    Regret(
        "R16",
        "Test items in the training text",
        "warned",
        "The benchmark's questions stand in the crawl, with their answers. The score is a record, "
        "and is memory.",
        "`fromscratch doctor DATA --against FILE` finds items that share 13 words in a row with "
        "the training text, and names the documents.",
    ),
    Regret(
        "R17",
        "A tokenizer that cannot read back what it wrote",
        "impossible",
        "A home-made tokenizer takes the longest match instead of the order of its merges, so its "
        "ids are not those it was trained with; and decoding raises inside a character.",
        "Encoding is that of tiktoken and of tokenizers, to the id, and any text comes back. A "
        "stream of text only ever holds whole characters.",
    ),
)
