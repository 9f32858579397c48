"""More words, and words that nobody has seen: names that the tokenizer has to spell in several pieces.

The tokenizer gives one token to each word that its own training data were full of. Had all names been such words, a
model would learn to copy single tokens, and finish a spelled name from memory: `wedding` for `wedlock`.
"""

import bisect
import collections
import itertools

MORE_WORDS = """
one two three four five six seven eight nine ten eleven twelve zero hundred first second third fourth last next half double single
sorted filtered merged joined combined unpacked extracted packed archived compressed copied moved renamed deleted cleaned counted fetched downloaded
saved stored written created changed updated replaced removed finished completed processed checked approved rejected pending closed
open ready done late early daily weekly monthly yearly result results output input total summary overview copy copies original old new latest
current previous final empty full short long small large big unique common public private shared local remote
sort filter merge join unpack extract pack copy move rename delete clean count fetch download save store write create change update replace remove
finish check send print read list find search show open close start stop run test build make take give keep
monday tuesday wednesday thursday friday saturday sunday january february april june july august september october november
december spring tonight today yesterday tomorrow weekday fortnight decade century calendar anniversary holiday ceremony graduation
reunion election referendum parliament president minister senator governor mayor ambassador citizen neighbor neighbour landlord tenant
plumber electrician carpenter mechanic engineer architect scientist chemist physicist biologist astronomer mathematician librarian
secretary accountant cashier waitress barber hairdresser photographer musician composer conductor drummer guitarist pianist singer
dancer actor actress director producer author editor publisher journalist reporter translator interpreter lawyer attorney detective
officer soldier sailor captain colonel general admiral pilot astronaut firefighter paramedic surgeon dentist pharmacist psychologist
therapist veterinarian gardener shepherd fisherman butcher grocer shopkeeper merchant salesman consultant administrator supervisor
apprentice volunteer pensioner toddler teenager grandfather grandmother nephew niece brother sister daughter husband wife bride groom
bridesmaid stranger companion colleague opponent champion winner loser spectator audience crowd passenger pedestrian cyclist driver
wagon motorcycle truckload ambulance helicopter airplane glider submarine sailboat tugboat lifeboat steamship locomotive railway
carriage tramway underground motorway crossroads roundabout pavement sidewalk footpath staircase elevator escalator corridor hallway
entrance doorway archway basement cellar attic bathroom bedroom nursery laundry pantry larder cupboard bookcase sideboard armchair
footstool chandelier lampshade doorbell letterbox mailbox keyhole doorknob windowsill fireplace hearth radiator boiler thermostat
faucet plumbing drainage gutter skylight rooftop scaffold cement concrete plaster wallpaper varnish hardwood plywood sawdust chisel
screwdriver crowbar pickaxe lawnmower hedgehog sprinkler watering compost greenhouse flowerpot sunflower snowdrop daffodil dandelion
buttercup bluebell foxglove lavender rosemary thyme oregano coriander parsley cinnamon nutmeg cardamom turmeric saffron vanilla
chocolate caramel marzipan marmalade pancake omelette sandwich hamburger meatball casserole lasagna spaghetti macaroni risotto
dumpling burrito tortilla guacamole hummus falafel cucumber zucchini eggplant artichoke asparagus broccoli cauliflower beetroot
sweetcorn chickpea lentil walnut hazelnut pistachio cashew apricot nectarine tangerine grapefruit pineapple watermelon blueberry
raspberry strawberry blackberry cranberry gooseberry elderberry currant pomegranate avocado coconut papaya passionfruit rhubarb
mackerel sardine herring haddock halibut swordfish octopus lobster oyster mussel jellyfish starfish seahorse turtle crocodile
alligator chameleon salamander tadpole dragonfly butterfly ladybird grasshopper mosquito bumblebee caterpillar earthworm scorpion
centipede kingfisher woodpecker nightingale blackbird goldfinch bullfinch chaffinch cuckoo vulture flamingo ostrich albatross cormorant
puffin seagull hamlet reindeer antelope gazelle buffalo bison rhinoceros hippopotamus elephant chimpanzee gorilla orangutan kangaroo
wallaby wombat platypus chipmunk hedgehog porcupine badger ferret mongoose leopard panther cheetah hyena jackal coyote greyhound
spaniel terrier bulldog sheepdog poodle stallion foal piglet calf lambswool cashmere corduroy denim flannel polyester waistcoat
overcoat raincoat trousers pyjamas slippers stockings suspenders cufflinks handbag backpack rucksack briefcase purse wristwatch
eyeglasses sunscreen toothpaste shampoo perfume lipstick bandage plaster aspirin vitamin thermometer stethoscope microscope telescope
binoculars magnifier calculator typewriter photocopier telephone headset microphone loudspeaker amplifier turntable cassette
gramophone harmonica accordion bagpipes saxophone clarinet trombone xylophone tambourine symphony concerto sonata overture melody
harmony rhythm lullaby ballad chorus refrain verse sonnet limerick proverb riddle anecdote fable legend biography autobiography
encyclopedia dictionary thesaurus glossary appendix footnote paragraph sentence syllable alphabet vowel consonant grammar spelling
vocabulary punctuation apostrophe handwriting signature envelope stationery postage telegram brochure leaflet pamphlet magazine
gazette headline advertisement commercial sponsor auction bargain discount refund voucher coupon invoice overdraft mortgage insurance
pension dividend inheritance fortune poverty wealth currency banknote penny shilling dollar euro pound franc krona
arithmetic algebra geometry calculus statistics probability fraction decimal percentage equation triangle rectangle pentagon hexagon
octagon cylinder pyramid sphere ellipse parabola diameter radius perimeter circumference horizon latitude longitude equator
hemisphere continent peninsula archipelago plateau waterfall rapids estuary marshland wetland grassland woodland rainforest tundra
iceberg avalanche earthquake landslide hurricane tornado blizzard thunderstorm lightning hailstorm drizzle rainfall sunshine sunrise
sunset twilight midnight moonlight starlight eclipse asteroid satellite spacecraft telescope gravity velocity momentum friction
pressure temperature humidity voltage current resistor capacitor transistor circuit magnetism radiation isotope molecule electron
proton neutron nucleus hydrogen helium lithium oxygen nitrogen phosphorus sulphur chlorine calcium potassium titanium aluminium
platinum mercury uranium diamond emerald sapphire amethyst turquoise obsidian granite limestone sandstone marble pumice
skeleton muscle shoulder elbow wrist knuckle fingernail eyebrow eyelash forehead cheekbone nostril backbone kneecap heartbeat
bloodstream digestion appetite allergy infection influenza headache toothache vaccination recovery exercise gymnastics wrestling
badminton volleyball basketball handball baseball cricket rugby fencing archery marathon triathlon hurdles javelin trampoline
snorkel surfboard snowboard toboggan rollercoaster carousel playground hopscotch dominoes backgammon checkers crossword kaleidoscope
adventure expedition pilgrimage excursion itinerary destination souvenir luggage suitcase departure arrival boarding customs
embassy consulate frontier territory province district suburb outskirts downtown metropolis countryside farmland vineyard orchard
meadowland pasture haystack scarecrow windmill watermill blacksmith barnyard chicken rooster gosling duckling
freedom justice honesty patience courage wisdom curiosity imagination ambition confidence gratitude generosity sympathy loyalty
friendship happiness sadness jealousy anxiety boredom excitement surprise disappointment embarrassment ignorance knowledge experience
education discipline tradition ceremony religion philosophy psychology literature architecture sculpture painting portrait landscape
gallery exhibition museum antique heirloom treasury kingdom empire republic dynasty monarchy emperor empress princess duchess
jester wizard witch goblin fairy dwarf ogre mermaid phoenix griffin werewolf vampire skeletons
beginning ending opening closing meaning reading writing drawing cooking baking cleaning knitting sewing weaving gardening fishing
hunting camping hiking climbing swimming diving rowing sailing skating skiing cycling driving parking shopping spending saving
lending borrowing teaching learning training testing planning building repairing measuring counting sorting packing shipping
billing booking hiring meeting speaking listening singing dancing acting filming recording printing binding mailing
inventory warehouse shipment freight delivery logistics supplier distributor retailer wholesale checkout receipt barcode
keyboard touchpad joystick printer scanner projector firewall database spreadsheet document template backup snapshot bookmark
password username certificate licence gateway endpoint cluster container instance pipeline workflow dashboard notebook
heater cooler humidifier detector alarm intercom doorman janitor caretaker receptionist headmaster principal professor lecturer
""".split()

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Maker:
    """Draws made-up words that are like known ones: they begin or go on as words do, and are none."""

    def __init__(self, words):
        self.words = sorted({w.lower() for w in words if w.isalpha() and w.isascii() and len(w) > 3})
        self._known = set(self.words)
        follow = collections.defaultdict(collections.Counter)
        for w in self.words:
            padded = "^^" + w + "$"
            for a, b, c in zip(padded, padded[1:], padded[2:]):
                follow[a + b][c] += 1
        self._follow = {}
        for pair, counts in follow.items():
            letters = sorted(counts)
            self._follow[pair] = letters, list(itertools.accumulate(counts[c] for c in letters))

    def _chain(self, r, longest=11):
        """Letters that follow each pair of letters as often as in the known words."""
        word, pair = "", "^^"
        while len(word) < longest and pair in self._follow:
            letters, sums = self._follow[pair]
            c = letters[bisect.bisect(sums, r.random() * sums[-1])]
            if c == "$":
                break
            word, pair = word + c, pair[1] + c
        return word

    def _splice(self, r):
        """The front of one word and the end of another."""
        a, b = r.choice(self.words), r.choice(self.words)
        return a[: r.randint(2, max(2, len(a) - 1))] + b[r.randint(1, max(1, len(b) - 2)) :]

    def _slip(self, r):
        """A word with one letter other, more or less."""
        w = r.choice(self.words)
        at = r.randrange(1, len(w))
        return w[:at] + r.choice([r.choice(_LETTERS), r.choice(_LETTERS) + w[at], ""]) + w[at + 1 :]

    def draw(self, r):
        x = r.random()
        for _ in range(20):
            if x < 0.4:
                word = self._splice(r)
            elif x < 0.65:
                word = self._chain(r)
            elif x < 0.8:
                word = self._slip(r)
            elif x < 0.92:
                word = r.choice(self.words) + r.choice(self.words)
            else:
                word = "".join(r.choice(_LETTERS) for _ in range(r.randint(3, 7)))
            if 3 <= len(word) <= 16 and word not in self._known:
                return word
        return word
