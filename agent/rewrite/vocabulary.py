"""The English that the guard knows: what may be added, what says the same, how things are joined.

Small and plain on purpose: a word that is on no list is content, which a rewrite may neither drop
nor add. So what the lists lack costs a refusal, never a changed meaning.
"""

from __future__ import annotations

from promptprobe.tools.sprites.language import COLOUR_WORDS, COUNT_WORDS

SYNONYMS: tuple[str, ...] = (
    "big large huge", "small little tiny", "giant gigantic enormous", "old elderly aged",
    "young youthful", "sofa couch", "dog puppy pup doggy", "rabbit bunny", "horse pony",
    "child kid", "man guy gentleman", "woman lady", "street road", "bicycle bike",
    "airplane plane aeroplane", "forest woods woodland", "ocean sea", "stone rock", "sunrise dawn",
    "sunset dusk", "night nighttime", "noon midday", "cozy cosy", "snowy snow-covered",
    "cat kitty kitten feline", "car automobile auto", "bird birdie", "mushroom toadstool",
    "umbrella brolly", "ship boat", "rug carpet", "cup mug", "hill hillside", "baby infant",
    "picture image", "tv television", "phone telephone", "begin start", "shop store", "quick fast",
    "jump leap", "speak talk", "ill sick", "wooden wood", "smile grin",
)  # fmt: skip
COLOURS = {
    **COLOUR_WORDS,
    "red": (*COLOUR_WORDS["red"], "ruby", "vermilion"),
    "blue": (*COLOUR_WORDS["blue"], "sapphire", "cobalt"),
    "black": (*COLOUR_WORDS["black"], "onyx"),
    "white": ("white", "ivory"), "grey": ("grey", "gray"), "brown": ("brown",), "pink": ("pink",),
    "teal": ("teal", "turquoise", "cyan"), "gold": ("gold",), "silver": ("silver",),
    "beige": ("beige",), "magenta": ("magenta",),
}  # fmt: skip
COUNTS = {
    **COUNT_WORDS,
    5: ("five", "5"), 6: ("six", "6"), 7: ("seven", "7"), 8: ("eight", "8"), 9: ("nine", "9"),
    10: ("ten", "10"), 11: ("eleven", "11"), 12: ("twelve", "12", "a dozen"), 20: ("twenty", "20"),
    100: ("hundred", "100"),
}  # fmt: skip
IRREGULAR = {
    "people": "person", "men": "man", "women": "woman", "children": "child", "mice": "mouse",
    "feet": "foot", "teeth": "tooth", "geese": "goose", "knives": "knife", "wolves": "wolf",
    "leaves": "leaf", "fungi": "fungus",
}  # fmt: skip
SINGULAR_S = frozenset(
    "chess glass grass dress bus paris canvas lens gas bias atlas christmas news always perhaps"
    " james series species swiss moss cross princess mattress compass class".split()
)
NOT_VERBS = frozenset(
    "building painting drawing ring king evening morning ceiling wing string spring wedding thing"
    " nothing something everything clothing ending lightning pudding earring sling swing".split()
)
NOT_ADVERBS = frozenset(
    "family butterfly fly lily jelly belly italy holly bully ally july dolly assembly monopoly"
    " only lonely ugly".split()
)
FUNCTION = frozenset(
    "a an the is are was be being been it its he she they his her their them this that these those"
    " which who whose there of as one single exactly only just please can you could draw make me"
    " gimme i want show some any both each every behold create generate depict depicting depicts"
    " portrays showing shows featuring features says very quite so also to-be s colored coloured"
    " color colour".split()
)

# Words a rewrite may add: quality, light, lens, composition, mood. In a brief they are not required
# where they only praise (QUALITY), and are required where they say something (HARMLESS).
QUALITY = frozenset(
    "masterpiece masterful best quality high low resolution res hd uhd hdr 4k 8k 16k detailed"
    " detail details highly ultra hyper super extremely intricate sharp crisp clear clean focus"
    " focused trending artstation award winning professional professionally stunning gorgeous"
    " amazing beautiful lovely perfect realistic photorealistic hyperrealistic realism lifelike"
    " fine finely drawn rendered rendering rendition depiction unreal engine octane raytraced shot"
    " on camera canon nikon sony iphone definition accurate faithful carefully wonderful great"
    " nice good aesthetic simple style styled digital artistic".split()
)
HARMLESS = frozenset(
    # light and colour treatment
    "light lighting lit lights glow glowing shadow shadows highlight highlights backlit rim ambient"
    " volumetric natural soft softly hard harsh warm cool bright dim dramatic moody cinematic"
    " overcast sunny sunlit sunlight daylight moonlight candlelight studio diffuse diffused"
    " golden-hour hour vivid vibrant saturated muted pastel palette tone tones colors colours rich"
    " contrast monochrome exposure reflections reflection bokeh haze hazy mist misty atmosphere"
    " atmospheric early autumn"
    # lens and composition
    " close closeup up wide angle shallow depth field lens macro telephoto blur blurred motion"
    " composition composed centered centred framing frame framed symmetrical symmetrically balanced"
    " spaced evenly view viewpoint eye-level level perspective front-view side shot shots candid"
    " action dynamic still life portrait landscape interior product food wildlife street-style"
    " editorial fashion architecture photographed photography photographic silhouette silhouettes"
    " lettering legible readable separate separated distinct isolated minimalist minimal flat plain"
    " neutral pale background backdrop ground space negative empty uncluttered scene setting"
    " art artwork design graphic texture textured paper brush brushwork strokes wash"
    " washes delicate lines line outline outlines shading shaded shapes layout full body fully"
    " visible"
    " film grain grainy analog polaroid glossy matte polished smooth gradient solid bold crop"
    " cropped zoomed overhead aerial isometric foreground midground edges angles medium long half"
    " upper front spotlight spotlit neon rays beams sunbeams dappled candlelit firelight lamplight"
    " sparkling shimmering luminous radiant stylized stylised painterly impressionist"
    " impressionistic surreal fantasy concept storybook handmade hand retro classic modern vintage"
    " look"
    # mood and manner
    " serene calm peaceful quiet tranquil majestic elegant graceful sleek charming adorable cute"
    " lovely fluffy furry cheerful joyful happy romantic nostalgic whimsical magical dreamy epic"
    " mood cozy rugged tall gentle lively playful timeless mysterious ethereal colorful colourful"
    " expressive deep standing sitting resting lying placed situated positioned located set seated"
    " displayed posed hovering".split()
)
STYLE_HEADS = frozenset(
    "light lighting glow photography photograph tones palette mood look atmosphere lens".split()
)
"""A word right before one of these is style too: "window light", "street photography"."""
HARMLESS_PHRASES = (
    "golden hour", "blue hour", "light in the windows", "depth of field", "hand drawn",
    "rule of thirds", "white background", "black background", "grey background", "gray background",
    "light background", "dark background", "white backdrop", "black backdrop", "in the background",
    "in the company of",
)  # fmt: skip
TIMES = frozenset(
    "night day sunrise sunset noon midnight morning evening afternoon twilight winter summer spring"
    " autumn".split()
)

# A medium is a class; the brief's, where it names one, is kept and not joined by another.
MEDIA = {
    "photo": "photo photograph photography photographic snapshot photographed",
    "oil": "oil-painting oil-on-canvas",
    "watercolour": "watercolor watercolour watercolors aquarelle",
    "pencil": "pencil sketch pencil-sketch charcoal pencil-drawing",
    "ink": "ink woodcut engraving linocut",
    "anime": "anime manga",
    "comic": "comic cartoon comic-book",
    "3d": "3d cgi blender 3d-render render",
    "pixel": "pixel-art pixelated",
    "vector": "vector icon emoji clipart logo vector-art",
    "sculpture": "sculpture statue",
    "any": "painting illustration picture image drawing artwork print poster",
}
ANY_MEDIUM = "any"

SEPARATORS = frozenset(
    "and plus by , ; . next-to beside near by-side alongside accompanied-by together-with"
    " in-the-company-of adjacent-to close-to while where".split()
)
NEGATIONS = (
    "no", "not", "without", "never", "none", "nothing", "except", "instead of", "free of",
    "devoid of", "minus", "lacking", "isn't", "don't", "doesn't", "aren't", "but not",
)  # fmt: skip

BESIDE = ("", "to the ", "on the ", "at the ", "just ")
# phrase -> (name, swapped): "B below A" is above(A, B).
RELATIONS: dict[str, tuple[str, bool]] = {
    **{f"{lead}left of": ("left", False) for lead in BESIDE},
    **{f"{lead}right of": ("left", True) for lead in BESIDE},
    "above": ("above", False), "over": ("above", False),
    "below": ("above", True), "under": ("above", True), "beneath": ("above", True),
    "underneath": ("above", True),
    "on": ("on", False), "on top of": ("on", False), "atop": ("on", False), "upon": ("on", False),
    "in front of": ("before", False), "before": ("before", False), "behind": ("before", True),
    "in": ("in", False), "inside": ("in", False), "inside of": ("in", False),
    "within": ("in", False), "containing": ("in", True), "filled with": ("in", True),
    "wearing": ("wear", False), "dressed in": ("wear", False), "clad in": ("wear", False),
    "shaped like": ("shape", False), "in the shape of": ("shape", False),
    "in the form of": ("shape", False), "shaped": ("shape", True),
    **{word: (word, False) for word in (
        "at", "through", "across", "along", "around", "against", "from", "into", "onto", "to",
        "toward", "towards", "between", "outside", "inside out", "like", "for", "off", "out of")},
}  # fmt: skip
# "a house with a cat on its left": left(cat, house).
TRAILING: dict[str, tuple[str, bool]] = {
    "on its left": ("left", False), "to its left": ("left", False), "at its left": ("left", False),
    "on its right": ("left", True), "to its right": ("left", True), "at its right": ("left", True),
    "on it": ("on", False), "on top": ("on", False), "on top of it": ("on", False),
    "above it": ("above", False), "over it": ("above", False), "below it": ("above", True),
    "beneath it": ("above", True), "under it": ("above", True), "underneath it": ("above", True),
    "behind it": ("before", True), "in front of it": ("before", False), "in it": ("in", False),
    "inside it": ("in", False),
}  # fmt: skip
# "on the left a cat, on the right a house"
PLACES = {
    "on the left": "left", "at the left": "left", "at left": "left",
    "on the right": "right", "at the right": "right", "at right": "right",
    "at the top": "top", "at the bottom": "bottom",
}  # fmt: skip
