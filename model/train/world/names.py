"""Words, people, places, file names, numbers and dates that the synthetic world is made of.

A twelfth of the words is kept for the validation split alone, and many names are made up on the spot, so that a model
has to copy what it reads instead of remembering it.
"""

import zlib

from .words import MORE_WORDS, Maker

NOUNS = """
account acorn address album alley almond anchor ankle answer antler apple apron arch arrow atlas attic aunt autumn award
axe badge bag bakery balcony ball balloon bamboo banana band bank banner barn barrel basil basin basket bat beach bead
beam bean bear beard beaver bed bee beetle bell belt bench berry bicycle bill bird biscuit blanket blossom board boat
bolt bone book boot border bottle bowl box bracket branch brass bread breakfast breeze brick bridge broom brush bucket
budget buffet bulb bulletin bundle bus bush butter button cabbage cabin cabinet cable cactus cake calendar camel camera
camp canal candle candy canoe canvas canyon cape car caravan card cargo carpet carrot cart castle cat catalog cave
cedar ceiling cellar census cereal chain chair chalk chapel chapter charter cheese cherry chess chest chimney choir
cider cinema circle circus clay clerk cliff clinic clock cloth cloud clover club coach coal coast coat cobweb coffee coin
collar college comb comet compass concert cone contract cookie copper coral cord cork corn corner cottage cotton couch
council counter course court cousin cover cow crab cradle crane crayon cream creek crew cricket crop crown crumb crystal
cup curtain cushion customer daisy dam dance deck deer delivery depot desert desk dessert diary dinner dish ditch
dock doctor dog doll dolphin donkey door dough dove draft dragon drawer dress drill drum duck dune dust eagle earring
easel echo egg elbow elm ember engine envelope errand estate evening event exam fabric face factory fair falcon family
fan farm feather fence fern ferry festival fiddle field fig film finger fire fish flag flame flask fleet flood floor
flour flower flute fog folder forest fork fort fossil fountain fox frame freight frog frost fruit fuel funnel fur
furnace gadget galaxy gallery game garage garden garlic garment gate gazebo gear gift ginger giraffe glacier glass globe
glove glue goal goat gold goose grain grape grass gravel grove guest guide guitar gull gutter habit hail hall hammer
hamster harbor harvest hat hawk hazel heart hedge helmet hen herb hero heron hill hinge hobby hockey honey hood hook
horn horse hospital hotel house hunter hut ice igloo index ink inn insect inventory invoice iron island ivory ivy
jacket jam jar jasmine jelly jewel jigsaw journal journey judge jug juice jungle kayak kennel kettle key kiln
kitchen kite kitten knee knight knot label lace ladder lagoon lake lamb lamp lantern lark laundry lawn leaf league lease
leather lecture ledger lemon lens leopard lesson letter lettuce level library lid light lily lime line linen lion list
lizard loaf lobby locker loft log lotus lounge lunch lynx machine magnet magpie mail manager mango mantle manual map maple
marble march margin market mask mast match matrix meadow meal measure medal melon member memo menu merchant message
metal meteor meter mill mine mint minute mirror mitten model mole money monitor monkey monument moon moose morning moss
moth motor mountain mouse muffin mug museum mushroom music mustard nail napkin needle nest net newsletter nickel nose
note notebook novel number nursery nut oak oar oasis oat ocean office oil olive onion opal opera orange orbit orchard
orchid order organ otter oven owl oyster package paddle page paint palace palm pan panda panel paper parade parcel park
parrot party passport pasta pastry patch path patient patrol pattern pavilion payment peach peacock peanut pear pearl
pebble pedal pelican pen pencil penguin pepper permit photo piano picnic pie pier pigeon pillow pilot pine pipe pizza plan
planet plank plant plate platform play plaza plum pocket poem pond pony pool poppy porch port portrait postcard poster pot
potato pottery powder prairie price prize profile project promise protocol pudding pump pumpkin puppet purse puzzle
quail quarry quartz queen queue quilt quince quiz rabbit raccoon radar radio radish raft rail rain rainbow raisin ranch
raven razor receipt recipe record reef region register rent repair report request reservoir resort review ribbon rice
ridge ring river road robin robot rock rocket roof room rooster root rope rose route rowboat ruby rug ruler runner sack
saddle safari sail salad sale salmon salt sample sand sandal satchel sauce sausage scale scarf schedule school science
scissors scooter score screen screw script scroll sea seal season seat seed sensor servant shadow shark shed sheep sheet
shelf shell shelter shield ship shirt shoe shop shore shovel shrimp signal silk silver sink siren sketch ski skirt sky
sled sleeve slide slipper snail snake snow soap sock sofa soil song soup spade spark sparrow speech spider spinach spiral
sponge spoon spring sprout square squash squid squirrel stable stadium staff stage stair stamp star statue steam steel
stem step stew stick stone stool storage store storm story stove straw stream street student studio subway sugar suit
suitcase summary summer sun supper supply surf survey swallow swan sweater swim switch sword syrup table tablet tail
tailor tank tape target tea teacher team temple tennis tent terrace theater thermos thimble thistle thread throne thunder
ticket tide tiger tile timber timer tin tire toast toaster tomato tool torch tournament towel tower town toy tractor trade
trail train tray treasure treaty tree trial tribe trip trophy trout truck trumpet trunk tulip tuna tunnel turkey turnip
turtle twig umbrella uncle unicorn uniform union vacation valley van vase vault vegetable velvet vendor venue vessel
veteran village vine vinegar violet violin visit visitor volcano volume voyage waffle wagon waiter walk wall wallet walnut
walrus wardrobe warehouse wasp watch water wave wax weasel weather wedding weekend well whale wheat wheel whistle wick
willow wind window wine wing winter wire wolf wood wool workshop worm wreath wrench yard yarn year yogurt zebra zipper zone
""".split()

ADJECTIVES = """
able amber ancient annual autumn bare basic big bitter black blank blue blunt bold brave brief bright broad broken brown busy
calm careful central cheap chief clean clear clever close cold common cool crisp curly current daily damp dark dear deep
dense distant double dry dull eager early east easy eastern empty equal even exact extra faint fair false famous fancy fast
final fine firm first flat fluffy foreign formal fourth free fresh frozen full funny gentle giant glad golden good grand
grave gray great green half handy happy hard heavy hidden high hollow honest hot huge humble hungry icy idle inner jolly
junior keen kind large last late lazy lean left legal light little local lonely long loose lost loud low lucky main major
mellow mild minor misty mixed modern monthly muddy narrow nearby neat new next nice noble noisy north northern odd old only
open other outer pale partial past patient perfect pink plain polite poor pretty private proper proud public pure purple
quick quiet rapid rare raw ready real recent red regular rich ripe rough round royal rude rusty sacred sad safe salty second
secret senior shallow sharp shiny short shy silent silver simple single slim slow small smart smooth soft solid sore south
southern spare special spicy square stable stale steady steep sticky stiff strange strict strong sturdy sudden sunny super
sweet swift tall tame tasty tender thick thin third tidy tight tiny tired total tough true twin upper urgent usual vague vast
vivid warm weak weekly west western wet white whole wide wild windy wise wooden yearly yellow young zesty
""".split()

VERBS = """
add ask bake bend borrow bring brush build burn buy call carry catch change check choose clean climb close collect cook
copy count cover cross cut deliver dig draw drive drop dry eat empty feed fetch fill find finish fix fold follow gather
give greet guard guess guide hang help hide hold invite join jump keep kick knit know label lead learn leave lend lift
light like load lock lose love make mark measure meet melt mend mix move name need notice open order pack paint park
pay peel pick plan plant play polish post pour press print pull push raise reach read receive remember remove rent repair
reply report rescue reserve rest return ride ring roll row sail save search see sell send serve sew shake share sharpen
shift show shut sign sing skip sleep slice smell solve sort start steer stir stop store study sweep swim take taste teach
tell test thank throw tie touch trade train travel trim try turn use visit wait walk want wash watch water wear weigh win
wipe wrap write
""".split()

FIRST_NAMES = """
Ada Adam Agnes Aisha Alan Albert Alice Alma Amara Amir Amy Ana Andre Anita Anna Anton Arthur Astrid Axel Bea Ben Bianca
Bjorn Boris Brian Bruno Carla Carlos Carmen Cecil Celia Chen Chloe Clara Colin Cora Cyrus Daisy Dana Daniel Daria David
Dean Delia Diego Dina Dora Edgar Edith Edna Egon Elena Elias Elise Ella Elmer Elsa Emil Emma Enzo Eric Erin Esther Ethan
Eva Ezra Farah Felix Fiona Flora Floyd Frank Freya Gail Gemma George Gina Glen Grace Greta Gus Gwen Hana Hanna Harold
Harry Hassan Hazel Hector Heidi Helen Henry Herman Hiro Hugo Ida Igor Ines Ingrid Ira Irene Iris Isaac Ivan Ivy Jack Jade
Jamal James Jan Jana Jane Jasper Jean Jenna Jeremy Jesse Joan Joel Johan Jonas Jorge Josef Joy Juan Judith Jules Julia
June Kai Karen Karim Karl Kate Keith Kenji Kira Klaus Kofi Kurt Lara Lars Laura Lea Leif Lena Leo Leon Lila Lily Linda Liv
Lola Lorenz Lotte Louis Lucas Lucia Luis Luna Lydia Mabel Maeve Magda Mara Marco Maria Marie Mark Marta Martin Mateo Maud
Max Maya Mei Mia Mika Mila Milo Mina Mira Moira Mona Moses Myra Nadia Naomi Nell Nico Nina Noah Noel Nora Olaf Olga Oliver
Olivia Omar Ona Oscar Otto Owen Pablo Paolo Paul Paula Pavel Pedro Penny Petra Phil Pia Piet Quinn Rafael Raj Ralph Ravi
Rene Rhea Rita Rob Robert Roland Roman Rosa Rose Ruben Rudi Ruth Ryan Sage Salma Sam Sandra Sara Saul Sean Selma Sergio
Signe Simon Sofia Sonia Stella Sten Sue Sven Tara Tess Theo Thomas Tilda Tim Tina Tobias Tom Toni Uma Ursula Vera Viktor
Vince Viola Wade Walter Wanda Wendy Wilma Xenia Yara Yasmin Yuki Yusuf Yves Zara Zoe
""".split()

SURNAMES = """
Abbott Adler Aguilar Almeida Andersen Archer Baker Banerjee Barlow Becker Bennett Bergman Bianchi Bishop Blake Bloom Bowen
Brandt Brennan Brooks Burke Calder Campos Carter Chandra Clarke Coleman Conti Cooper Costa Crane Cruz Dahl Dalton Delgado
Dixon Doyle Drake Dubois Duncan Eaton Ekman Ellis Engel Evans Falk Farmer Fischer Fleming Flores Foster Fowler Fox Franco
Garner Gibson Glover Goddard Gomez Grant Greco Griffin Gruber Haas Hale Hansen Harper Hartman Hayes Hoffman Holm Hopkins
Horvat Hughes Hunt Ibarra Ito Jansen Jensen Jordan Kaplan Keller Kelly Khan Kim Klein Koch Kovacs Kramer Kumar Lang Larsen
Lee Lehmann Leone Lindgren Lopez Lund Madsen Maier Marino Marsh Martins Mason Mayer Meyer Mills Molina Moore Moreau Moreno
Morris Muller Murphy Nagy Nash Navarro Nielsen Nolan Novak Ogden Okafor Olsen Ortega Osman Palmer Park Parker Patel Pavlov
Perez Petrov Pham Pierce Pohl Porter Powell Quinn Ramos Reed Reyes Ricci Richter Rivera Rossi Roth Ruiz Russo Sanders Santos
Sato Schmidt Schwarz Shaw Silva Singh Sloan Soto Stein Stone Suzuki Tanaka Taylor Thorne Torres Tran Turner Urban Vance
Vargas Vega Vogel Wagner Walker Wang Ward Weber Weiss West White Wolf Wong Wright Yamada Young Zimmer
""".split()

CITIES = """
Aarhus Accra Alicante Amman Antwerp Athens Auckland Austin Bamako Bari Basel Belgrade Bergen Berlin Bern Bilbao Bogota Bologna
Boston Braga Bremen Brno Bristol Cairo Calgary Cardiff Chicago Cologne Cork Dakar Dallas Delft Denver Derby Dresden Dublin
Durban Eugene Fargo Florence Geneva Genoa Ghent Glasgow Graz Haifa Halifax Hamburg Hanoi Havana Helsinki Houston Izmir Jakarta
Kampala Kiel Kobe Krakow Kyoto Lagos Leeds Leipzig Lima Lisbon Ljubljana Lodz London Lucerne Lugano Lund Lusaka Lyon Madrid
Malaga Malmo Manila Marseille Memphis Mexico Miami Milan Minsk Mumbai Munich Nairobi Nantes Naples Odense Oporto Osaka Oslo
Oxford Padua Palermo Paris Perth Pisa Plovdiv Porto Prague Quito Reno Reykjavik Riga Rome Rouen Salzburg Seattle Seoul Seville
Sofia Split Stuttgart Sydney Tallinn Tampere Tartu Tokyo Toledo Toronto Trieste Tromso Tucson Tunis Turin Uppsala Utrecht
Valencia Venice Verona Vienna Vilnius Warsaw York Zagreb Zurich
""".split()

PRODUCTS = """
laptop keyboard headphones charger backpack teapot mug lamp stapler printer router webcam speaker desk chair bookshelf
mattress blender toaster kettle fridge freezer dishwasher vacuum iron fan heater drill saw hammer wrench pliers ladder hose
rake shovel wheelbarrow tent sleeping-bag flashlight stove cooler kayak helmet gloves jacket scarf boots sandals sneakers
jeans shirt sweater socks belt wallet watch necklace bracelet ring sunglasses umbrella notebook pencil eraser marker crayons
glue tape ruler compass globe puzzle doll kite ball racket skates skateboard bicycle scooter guitar violin piano drums flute
trumpet camera tripod lens drone phone tablet monitor mouse cable adapter battery flour sugar butter cheese yogurt cereal pasta
rice beans lentils coffee tea juice soap shampoo toothbrush towel pillow blanket curtain carpet candle vase mirror clock
""".split()

COLORS = "red green blue yellow orange purple brown black white gray pink teal navy gold silver beige crimson lilac".split()
MONTHS = ("January February March April May June July August September October November December").split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

# What folders and files of ordinary people are called.
FOLDERS = """
notes docs photos pictures music recipes letters invoices reports backup archive old new drafts projects work home school
garden travel trips logs data src scripts config exports imports downloads uploads inbox outbox sent misc temp cache assets
images videos books papers receipts taxes bills budget plans tasks ideas journal diary minutes meetings contracts clients
orders stock sales finance hr legal team public private shared library lessons homework exams results samples tests lab
measurements sensors readings maps tickets events calendar contacts people family friends club choir sports games kitchen shop
""".split()
STEMS = """
notes todo readme list plan draft report summary letter invoice receipt budget menu recipe agenda minutes memo diary log data
numbers names people members guests contacts addresses cities colors animals plants words items prices orders sales stock
inventory results scores grades marks tasks ideas questions answers poem story chapter outline quotes lyrics song schedule
timetable calendar events tickets bookings payments expenses costs income taxes salary hours shifts readings temps weather
sensors servers hosts users accounts settings config options changes history version license index map route packing shopping
groceries errands chores birthdays wishes goals feedback survey votes errors warnings access system backup export import
""".split()
TEXT_EXT = ["txt", "md", "log", "csv", "json", "ini", "conf", "cfg", "sh", "py", "html", "xml", "yaml", "dat", "bak", "tmp",
            "jpg", "png", "pdf", "old", "css", "js", "tsv", "rst", "out", "mp3", "bin", "list", "rtf", "toml", "doc", "svg", "key", "lst",
            "orig", "properties", "data", "sql", "text"]
SYLLABLES = [c + v for c in "b d f g h j k l m n p r s t v w z br ch cl dr fl gr kl pl pr sh sk sl st th tr".split()
             for v in "a e i o u ai ei ou".split()]


def held_out(word):
    """Whether a word belongs to the validation split alone."""
    return zlib.crc32(word.lower().encode()) % 12 == 0


def _split(words):
    return [w for w in words if not held_out(w)], [w for w in words if held_out(w)]


_POOLS = {name: _split(words) for name, words in dict(
    noun=NOUNS, adjective=ADJECTIVES, verb=VERBS, first=FIRST_NAMES, surname=SURNAMES, city=CITIES, product=PRODUCTS,
    folder=FOLDERS, stem=STEMS, more=sorted(set(MORE_WORDS))).items()}
_MAKER = Maker([w for words, _ in _POOLS.values() for w in words])


class Names:
    """Draws names with one random generator; in the validation split half of the draws are held-out words."""

    def __init__(self, rng, validation=False):
        self.rng = rng
        self.validation = validation
        self.unusual = rng.choice([0, 0, 0, 0.15, 0.4, 0.8])  # the share of names in this world that are no known words

    def _word(self, pool):
        train, held = _POOLS[pool]
        if pool not in ("adjective", "verb"):
            x = self.rng.random()
            if x < self.unusual:
                made = _MAKER.draw(self.rng)
                return made.capitalize() if train[0][0].isupper() else made
            if x > 0.8 and pool in ("noun", "folder", "stem"):
                train, held = _POOLS["more"]
        if self.validation and self.rng.random() < 0.5:
            return self.rng.choice(held)
        return self.rng.choice(train)

    def noun(self):
        return self._word("noun")

    def adjective(self):
        return self._word("adjective")

    def verb(self):
        return self._word("verb")

    def first(self):
        return self._word("first")

    def surname(self):
        return self._word("surname")

    def city(self):
        return self._word("city")

    def product(self):
        return self._word("product")

    def color(self):
        return self.rng.choice(COLORS)

    def made_up(self, least=2, most=3):
        """A pronounceable word that no dictionary has: "brakine", "soudei"."""
        r = self.rng
        return "".join(r.choice(SYLLABLES) for _ in range(r.randint(least, most))) + r.choice(["", "", "n", "r", "s", "x"])

    def word(self):
        """Any lower-case word: mostly real, sometimes made up."""
        x = self.rng.random()
        if x < 0.55:
            return self.noun()
        if x < 0.70:
            return self.adjective()
        if x < 0.80:
            return self.verb()
        if x < 0.86:
            return self.product()
        return self.made_up()

    def words(self, n, source=None):
        """n different words."""
        draw, out = source or self.word, []
        while len(out) < n:
            w = draw()
            if w not in out:
                out.append(w)
        return out

    def person(self):
        return "%s %s" % (self.first(), self.surname())

    def code(self, n=None):
        """A random string of lower-case letters and digits."""
        return "".join(self.rng.choice("abcdefghijkmnpqrstuvwxyz23456789") for _ in range(n or self.rng.randint(4, 8)))

    def digits(self, n):
        return str(self.rng.randrange(10 ** (n - 1), 10 ** n))

    def date(self):
        r = self.rng
        return "%04d-%02d-%02d" % (r.randint(2019, 2027), r.randint(1, 12), r.randint(1, 28))

    def time(self):
        r = self.rng
        return "%02d:%02d:%02d" % (r.randrange(24), r.randrange(60), r.randrange(60))

    def stem(self):
        """A file's name without its ending."""
        r, x = self.rng, self.rng.random()
        a = self._word("stem") if r.random() < 0.35 else self.word()
        b = self._word("stem") if r.random() < 0.3 else self.word()
        if x < 0.42:
            return a
        if x < 0.54:
            return "%s-%s" % (a, b)
        if x < 0.66:
            return "%s_%s" % (a, b)
        if x < 0.71:
            return "%s%d" % (a, r.randint(1, 99))
        if x < 0.76:
            return "%s_%d" % (a, r.randint(1, 2030))
        if x < 0.80:
            return "%s-%d" % (a, r.randint(1, 2030))
        if x < 0.83:
            return "%s.v%d" % (a, r.randint(1, 9))
        if x < 0.86:
            return "%s-%s" % (a, self.first().lower())
        if x < 0.88:
            return "%s-%s" % (self.date(), a)
        if x < 0.90:
            return "%s_%s_%s" % (a, b, self.word())
        if x < 0.92:
            return "%s%02d" % (a, r.randint(0, 12))
        if x < 0.94:
            return a.upper()
        if x < 0.96:
            return a.capitalize()
        if x < 0.97:
            return "%s.%s" % (a, b)
        if x < 0.98:
            return "%s%s" % (a.capitalize(), b.capitalize())
        if x < 0.985:
            return "%s_%04d" % (r.choice(["IMG", "DSC", "scan", "SCN", "MVI", "pic"]), r.randint(1, 9999))
        return self.code()

    def file(self, ext=None):
        return "%s.%s" % (self.stem(), ext or self.extension())

    def extension(self):
        return self.rng.choice(TEXT_EXT[:6] if self.rng.random() < 0.6 else TEXT_EXT)

    def folder(self):
        r, x = self.rng, self.rng.random()
        if x < 0.5:
            return self._word("folder")
        if x < 0.7:
            return self.noun()
        if x < 0.8:
            return "%s-%s" % (self.word(), self._word("folder"))
        if x < 0.88:
            return "%s_%s" % (self.word(), self._word("folder"))
        if x < 0.93:
            return "%s%d" % (self._word("folder"), r.randint(1, 2026))
        if x < 0.95:
            return str(r.randint(2015, 2027))
        if x < 0.96:
            return self.code()
        return self.made_up()

    def like(self, name):
        """A file name that is easily mistaken for `name`."""
        r = self.rng
        stem, dot, ext = name.rpartition(".")
        if not dot:
            stem, ext = name, ""
        end = dot + ext
        choices = [stem + "2" + end, stem + "_old" + end, stem + "-copy" + end, "my-" + stem + end, stem + "s" + end,
                   stem + "-" + self.word() + end, self.word() + "_" + stem + end, stem + "_new" + end, stem + ".v2" + end]
        if ext:
            other = "md" if ext == "txt" else "txt"
            choices += [stem + "." + other, stem + end + ".bak", stem + "." + self.extension()]
        if "-" in stem:
            choices.append(stem.replace("-", "_") + end)
        if "_" in stem:
            choices.append(stem.replace("_", "-") + end)
        if stem[-1].isdigit():
            choices.append(stem[:-1] + str((int(stem[-1]) + r.randint(1, 8)) % 10) + end)
        out = r.choice(choices)
        return out if out != name else "other-" + name
