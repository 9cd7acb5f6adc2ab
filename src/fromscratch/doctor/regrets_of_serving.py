"""Regrets about finetuning, serving and giving a model to others."""

from __future__ import annotations

from fromscratch.doctor.regret import Regret

SERVING: tuple[Regret, ...] = (
    Regret(
        "R49",
        "<|user|> as plain text",
        "impossible",
        "The role marks are not in the vocabulary, so each is five tokens of ordinary text, which "
        "any user can type and a model may write in any other way.",
        "Roles are ids of their own, in the padding of the vocabulary, which no text can spell. A "
        "tokenizer without them is refused for such a template.",
    ),
    Regret(
        "R50",
        "Prompts in the loss, or a stop token that is not",
        "impossible",
        "The mask is off by one: the model learns to ask the questions, or never learns to stop.",
        "What is learned is each answer with its stop token, and nothing else. The start of "
        "finetuning shows one example with what is learned marked.",
    ),
    Regret(
        "R51",
        "Rows without anything to learn",
        "refused",
        "The prompt fills the context, every target is masked, and the row's loss is 0.0 or NaN. "
        "The mean looks better than it is.",
        "An example without a learned token is refused with its file and record; "
        'chat.on_bad="skip" counts it and leaves it out. The start of finetuning says which share '
        "of the tokens is learned.",
    ),
    Regret(
        "R52",
        "Packed examples that read each other",
        "impossible",
        "Short examples are packed into one row, and each attends to its neighbours. The answer of "
        "one is the prompt of the next.",
        "In a packed row no example sees another: loss and gradients are those of the examples one "
        "by one.",
    ),
    Regret(
        "R53",
        "One chat template for training and another for serving",
        "impossible",
        "A space or a line end differs between the two pieces of code. The model answers worse "
        "than it could, and nothing says why.",
        "One renderer makes the prompts of finetuning, DPO, chat, the judge and the server, and "
        "the template lies beside the weights; transformers gives the same ids from it.",
    ),
    Regret(
        "R54",
        '"Both under 300 tokens", computed from the sum',
        "impossible",
        "The limit was meant for each answer of a pair. The sum was compared, and half of the data "
        "was lost in silence.",
        "Prompt and answer, chosen and rejected have limits of their own "
        "(chat.max_prompt_tokens, chat.max_answer_tokens), and what exceeds which is counted.",
    ),
    Regret(
        "R55",
        "A server that one client can stop",
        "impossible",
        "No bound on n, tokens, bodies or the queue; generation goes on when nobody listens; "
        "characters are cut in half; and it listens to the whole network.",
        "`serve` bounds all of them, frees a text's place within a token when its client leaves, "
        "streams whole characters, and listens on this machine only unless --api-token is given.",
    ),
    Regret(
        "R56",
        "Weights that run code",
        "impossible",
        "A checkpoint is a pickle, a model brings its own Python, a template brings its own "
        "expressions: opening a file from the internet is running a program.",
        "All that is written is safetensors and JSON. `import` reads pickles with what makes "
        "tensors and nothing else; code and templates of others are never run.",
    ),
    Regret(
        "R57",
        "An export that loads nowhere else",
        "impossible",
        "The file is written without an error. The other program refuses it, or opens it and "
        "writes nonsense.",
        "`export` reads what it wrote with the target's own reader, compares the logits with the "
        "model's, and only then says that it succeeded.",
    ),
)
