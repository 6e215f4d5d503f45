"""What code is certain of in a rewrite: kept text, quotes, counts, negations; in six languages."""

from __future__ import annotations

import pytest

from promptprobe.agent.rewrite.facts import check_facts, counts, quoted

KEPT = [
    ("an owl reading under a street lamp", "an owl with a book beneath a street lamp, night"),
    (
        "a cat wearing a top hat and monocle",
        "a dapper cat wearing a black top hat and a monocle, Victorian oil painting",
    ),
    (
        "three red apples on a wooden table",
        "three shiny red apples arranged on a rustic wooden table, still life, soft daylight",
    ),
    (
        "a knight fighting a dragon",
        "an armored knight battling a fire-breathing dragon on a cliff, epic fantasy art",
    ),
    (
        "logo for a coffee shop called 'Bean There'",
        "minimalist vector logo for a coffee shop, with the words 'Bean There', flat design",
    ),
    ("一只在雪地里玩耍的狗", "一只金毛狗在雪地里奔跑玩耍，阳光明媚"),
    ("a dog's bowl and a cat's toy", "a dog's bowl, and cats' toys 'n' things"),
    ("drei Katzen auf einem Sofa", "3 Katzen auf einem roten Sofa"),
    ("trois chats et un chien", "trois chats tigrés et un chien, lumière douce"),
    ("dos gatos sobre la mesa", "2 gatos negros sobre la mesa, óleo"),
    ("一張桌子上有三隻貓", "桌子上趴着三只猫"),
    ("猫が三匹", "3匹の猫が座っている"),
    ("once upon a time, a castle", "a fairy-tale castle at dawn"),
    ("elf archer in the forest", "an elven archer in the woods"),
    ("a 35mm photo of 2 dogs", "35mm film photograph of two dogs, 4k"),
    ("a poster with the text „Guten Tag“", "a poster, serif type, with the text «Guten Tag»"),
    ("a shop called ‘Joe’s’", "a shop with a sign “Joe's”"),
    ("a coffee shop called Bean There", "a coffee shop with a sign 'Bean There'"),
    ("a man without a hat", "a man with short hair, no hat, film still"),
    ("没有人的街道", "空无一人、没有行人的雨夜街道"),
    ("写着「营业中」的招牌", "霓虹招牌，上面写着“营业中”"),
    ("um gato preto no telhado", "um gato preto em cima do telhado ao entardecer"),
    ("an allegory of sin", "a baroque allegory of temptation, a serpent and an apple"),
    ("The Fall, about the first sin in a garden", "a couple under a tree in a garden, a snake"),
]
CHANGED = [
    ("a sign that says 'Cat eats dog'", "a sign that says 'Dog eats cat'", "the text"),
    ("a sign that says 'OPEN'", "a sign that says 'Open'", "the text 'OPEN'"),
    ("a poster", "a poster that reads 'SALE'", "adds the text 'SALE'"),
    ("three cats on a sofa", "cats on a sofa, cosy light", "count 3"),
    ("drei Katzen auf einem Sofa", "vier Katzen auf einem Sofa", "count 3"),
    ("once gatos en el tejado", "gatos en el tejado", "count 11"),
    ("cinq pommes sur une table", "six pommes sur une table", "count 5"),
    ("猫が三匹", "二匹の猫が座っている", "count 3"),
    ("十二只鸟", "两只鸟", "count 12"),
    ("a man without a hat", "a man in a hat", "negation"),
    ("ein Mann ohne Hut", "ein Mann mit Hut", "negation"),
    ("没有人的街道", "有人的街道", "negation"),
    ("写着「营业中」的招牌", "写着「已打烊」的招牌", "the text"),
]
ONE_STAYS_ONE = [
    ("one red apple", "a shiny red apple on two wooden boards"),
    ("a red apple", "one red apple"),
    ("a cat", "a cat watched by two other cats"),
    ("a cat with one blue eye and one green eye", "a cat with two eyes, one blue and one green"),
    ("a man in a suit", "a man in a three-piece suit"),
    ("a dragon", "a two-headed dragon"),
    ("a house", "a two story house"),
    ("a horse-drawn carriage", "a carriage drawn by two horses"),
    ("a flower garden", "a garden with five flowers"),
    ("a fish tank", "an aquarium with three fish"),
    ("a few cats", "three cats"),
    ("a basket of apples", "a basket with six apples"),
    ("no one on the beach", "an empty beach, two palms"),
    ("ein paar Katzen", "drei Katzen"),
    ("ein Korb Äpfel", "ein Korb mit sechs Äpfeln"),
    ("une pomme rouge", "une pomme rouge devant deux poires rouges"),
    ("un panier de pommes", "un panier de six pommes"),
    ("un gato en la ventana", "un gato y dos macetas en la ventana"),
    ("一只狗", "一只狗和两只猫"),
    ("一起玩的猫", "两只猫一起玩"),
    ("一位女孩", "一位女孩和两位男孩"),
    ("猫が一匹", "猫が一匹、窓辺に二匹の犬"),
]
ONE_MADE_MANY = [
    ("one red apple", "three shiny red apples on a wooden table"),
    ("a red apple", "two red apples"),
    ("a single candle in the dark", "five candles glowing in the dark"),
    ("one fox in the snow", "3 foxes in deep snow"),
    ("a cat on a sofa", "a pair of fluffy cats on a sofa"),
    ("a woman with an umbrella", "two women sharing an umbrella"),
    ("a sheep on a hill", "two sheep on a green hill"),
    ("ein roter Apfel auf einem Tisch", "drei rote Äpfel auf einem Holztisch"),
    ("eine Katze auf dem Sofa", "zwei Katzen auf dem Sofa"),
    ("un seul chat noir sur le toit", "deux chats noirs sur le toit"),
    ("un petit cheval dans un pré", "deux petits chevaux dans un pré"),
    ("una manzana roja sobre la mesa", "tres manzanas rojas sobre la mesa"),
    ("un solo pez en el acuario", "cinco peces en el acuario"),
    ("一个红苹果", "三个鲜红的苹果"),
    ("一只黑猫坐在窗台上", "三只猫坐在窗台上"),
    ("一只在雪地里玩耍的狗", "两只在雪地里奔跑的狗"),
    ("一匹の白い犬が公園で遊ぶ", "二匹の白い犬が公園で遊ぶ"),
]


@pytest.mark.parametrize(("brief", "rewrite"), [*KEPT, *ONE_STAYS_ONE])
def test_a_rewrite_that_keeps_what_is_certain_passes(brief: str, rewrite: str) -> None:
    assert check_facts(brief, rewrite) == ""


@pytest.mark.parametrize(("brief", "rewrite", "said"), CHANGED)
def test_a_changed_quote_count_or_negation_is_named(brief: str, rewrite: str, said: str) -> None:
    assert said in check_facts(brief, rewrite)


@pytest.mark.parametrize(("brief", "rewrite"), ONE_MADE_MANY)
def test_several_of_a_thing_that_the_brief_has_one_of_are_refused(brief: str, rewrite: str) -> None:
    assert "where the brief has one" in check_facts(brief, rewrite)


def test_kept_text_stays_verbatim() -> None:
    keep = ("<lora:ink:0.8>",)
    assert check_facts("a fox <lora:ink:0.8>", "fox, <lora:ink:0.8>", keep) == ""
    assert "<lora:ink:0.8>" in check_facts("a fox <lora:ink:0.8>", "a fox <lora:ink:1>", keep)


@pytest.mark.parametrize("marks", ["''", '""', "‘’", "“”", "„“", "«»", "「」", "『』", "``"])
def test_text_between_any_quotation_marks_is_found(marks: str) -> None:
    assert quoted(f"a sign says {marks[0]}Bean There{marks[1]} today") == ("Bean There",)


def test_numbers_inside_quotes_and_names_are_no_counts() -> None:
    assert counts("a poster that says 'three cats', 1920s style, 4k, f/1.8") == set()
    assert counts("someone alone, an alien") == set()
