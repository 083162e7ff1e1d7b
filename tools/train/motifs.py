"""The things the model in the box is taught, and the words for them.

A line is `emoji | noun | other words`. The noun stands in captions such as "a photo of a NOUN"; the other words
replace it now and then, so that they lead to the same picture.
"""

TABLE = """
🐱 | cat | cat face
🐶 | dog | dog face
🐭 | mouse | mouse face
🐰 | rabbit | bunny
🦊 | fox | fox face
🐻 | bear | bear face
🐼 | panda | panda bear
🐨 | koala | koala bear
🐯 | tiger | tiger face
🦁 | lion | lion face
🐮 | cow | cow face
🐷 | pig | pig face
🐸 | frog | frog face
🐵 | monkey | monkey face
🐧 | penguin | penguin bird
🦆 | duck | duck bird
🦉 | owl | owl bird
🐴 | horse | horse face
🦄 | unicorn | unicorn face
🐝 | bee | honeybee
🦋 | butterfly | monarch butterfly
🐌 | snail | snail shell
🐞 | ladybug | lady beetle
🐢 | turtle | tortoise
🐍 | snake | green snake
🐙 | octopus | octopus with tentacles
🦀 | crab | red crab
🐠 | fish | tropical fish
🐬 | dolphin | blue dolphin
🐳 | whale | spouting whale
🐘 | elephant | grey elephant
🦒 | giraffe | tall giraffe
🐑 | sheep | ewe
🦖 | dinosaur | tyrannosaurus
🍎 | red apple | apple
🍐 | pear | green pear
🍊 | orange fruit | tangerine
🍋 | lemon | yellow lemon
🍌 | banana | yellow banana
🍉 | watermelon | slice of watermelon
🍇 | bunch of grapes | grapes
🍓 | strawberry | red strawberry
🍒 | pair of cherries | cherries
🍍 | pineapple | ripe pineapple
🥝 | kiwi fruit | kiwi
🍅 | tomato | red tomato
🥑 | avocado | half an avocado
🍆 | eggplant | aubergine
🥕 | carrot | orange carrot
🌽 | corn | ear of corn
🍄 | mushroom | toadstool
🍞 | loaf of bread | bread
🥐 | croissant | french croissant
🧀 | piece of cheese | cheese
🍔 | hamburger | burger
🍟 | french fries | fries
🍕 | pizza | slice of pizza
🌭 | hot dog | sausage in a bun
🍩 | doughnut | donut
🍪 | cookie | biscuit
🎂 | birthday cake | cake
🍦 | ice cream | soft ice cream
☕ | cup of coffee | coffee
🍺 | mug of beer | beer
🌵 | cactus | desert cactus
🌲 | evergreen tree | tree
🌴 | palm tree | tropical palm
🌻 | sunflower | yellow sunflower
🌹 | rose | rose flower
🌷 | tulip | tulip flower
🍀 | four leaf clover | clover
🍁 | maple leaf | autumn leaf
🚗 | car | automobile
🚌 | bus | school bus
🚚 | truck | delivery truck
🚲 | bicycle | bike
🚀 | rocket | space rocket
✈️ | airplane | plane
🚁 | helicopter | chopper
⛵ | sailboat | sailing boat
🚂 | steam locomotive | train
🚜 | tractor | farm tractor
📱 | mobile phone | smartphone
💻 | laptop | computer
📷 | camera | photo camera
💡 | light bulb | lamp
🔑 | key | golden key
🔨 | hammer | hammer tool
✂️ | pair of scissors | scissors
🎁 | gift | wrapped present
🎈 | balloon | toy balloon
⚽ | soccer ball | football
🏀 | basketball | orange basketball
🎸 | guitar | electric guitar
🎩 | top hat | hat
👑 | crown | golden crown
🔔 | bell | golden bell
🏠 | house | home
⛺ | tent | camping tent
💎 | gem | diamond jewel
🧸 | teddy bear | plush toy
🔒 | padlock | lock
☀️ | sun | bright sun
☁️ | cloud | white cloud
🌈 | rainbow | colorful rainbow
⚡ | lightning bolt | lightning
❄️ | snowflake | ice crystal
⛄ | snowman | man of snow
🌙 | crescent moon | moon
⭐ | golden star | yellow star
🔥 | fire | flame
😀 | smiling face | grinning face
😢 | crying face | sad face
😎 | face with sunglasses | cool face
😡 | angry face | red angry face
❤️ | red heart | heart
👻 | ghost | white ghost
🤖 | robot | robot face
💀 | skull | white skull
👽 | alien | alien face
🎃 | jack-o-lantern | halloween pumpkin
"""

MOTIFS = [tuple(part.strip() for part in line.split("|")) for line in TABLE.strip().splitlines()]
NOUNS = [noun for _, noun, _ in MOTIFS]

# What a colour word means, in sRGB.
COLOURS = {
    "white": (255, 255, 255),
    "black": (16, 16, 16),
    "gray": (128, 128, 128),
    "red": (214, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (250, 220, 60),
    "green": (50, 160, 70),
    "teal": (30, 160, 160),
    "blue": (40, 90, 220),
    "purple": (130, 60, 180),
    "pink": (250, 160, 200),
    "brown": (120, 75, 45),
}
SHAPES = ("circle", "square", "triangle", "star")


def article(words):
    """`words` with "a" or "an" before them."""
    if words.endswith(("grapes", "fries", "cherries", "scissors")) and not words.startswith(("pair", "bunch")):
        return words
    return ("an " if words[0] in "aeiou" and not words.startswith(("uni", "ewe")) else "a ") + words
