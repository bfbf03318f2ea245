//! What is emulated: a card's limits, and how its arithmetic strays from correct rounding.

use std::fmt;
use std::str::FromStr;

/// The limits of a card. Source: CUDA C++ Programming Guide, the table of compute capabilities;
/// numbers of multiprocessors are from the cards' white papers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Card {
    /// A common card of this compute capability.
    pub name: &'static str,
    /// Ten times the compute capability: 86 for 8.6.
    pub capability: u32,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of shared memory that one block can opt in to, declared and dynamic together.
    pub block_shared_bytes: usize,
    /// Bytes of shared memory of a multiprocessor. Each block takes one KiB besides its own.
    pub shared_bytes: usize,
    /// 32-bit registers of a multiprocessor.
    pub registers: u32,
    /// Threads that a multiprocessor holds.
    pub threads: u32,
    /// Blocks that a multiprocessor holds.
    pub blocks: u32,
}

/// Most threads a block has, on every card.
pub(crate) const BLOCK_THREADS: u64 = 1024;

const fn card(
    name: &'static str,
    capability: u32,
    multiprocessors: u32,
    [block_kib, kib]: [usize; 2],
    [threads, blocks]: [u32; 2],
) -> Card {
    Card {
        name,
        capability,
        multiprocessors,
        block_shared_bytes: block_kib * 1024,
        shared_bytes: kib * 1024,
        registers: 65536,
        threads,
        blocks,
    }
}

impl Card {
    /// Every card that can be emulated.
    pub const ALL: [Card; 6] = [
        card("A100", 80, 108, [163, 164], [2048, 32]),
        card("RTX 3090", 86, 82, [99, 100], [1536, 16]),
        card("RTX 4090", 89, 128, [99, 100], [1536, 24]),
        card("H100", 90, 132, [227, 228], [2048, 32]),
        card("B200", 100, 148, [227, 228], [2048, 32]),
        card("RTX 5090", 120, 170, [99, 100], [1536, 24]),
    ];

    /// The card of a compute capability, times ten.
    pub fn of(capability: u32) -> Option<Card> {
        Card::ALL.into_iter().find(|card| card.capability == capability)
    }
}

/// How the tensor cores of a compute capability line up what they add. Source: Khattak and Mikaitis
/// 2025, "Accurate Models of NVIDIA Tensor Cores", arXiv:2512.07004, compared bit by bit with A100,
/// A2, A30, Ada, L40S, H100, H200, B200 and RTX PRO 6000; Fasi, Higham, Mikaitis and Pranesh 2021,
/// "Numerical behavior of NVIDIA tensor cores", found the same on the A100, and arXiv:2510.15884 on
/// the RTX 3060.
pub(crate) fn alignment(capability: u32) -> Alignment {
    match capability {
        ..90 => Alignment { products: 8, extra_bits: 1 },
        _ => Alignment { products: 16, extra_bits: 2 },
    }
}

/// How tensor cores add a block of products and what was summed before: each is cut off at a bit
/// so far below the leading bit of the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alignment {
    /// Products of 16-bit factors that are added at once; of tf32 half as many.
    pub products: u32,
    /// Bits kept beyond the 23 below the leading one.
    pub extra_bits: u32,
}

/// How `mma` rounds its sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sums {
    /// As the card's tensor cores do: products are exact; a block of them and the sum so far are
    /// cut off below the last bit of the largest, added exactly, and the result is cut off to f32.
    Truncate,
    /// Product by product, each sum rounded to nearest.
    Round,
}

impl FromStr for Sums {
    type Err = String;

    fn from_str(text: &str) -> Result<Sums, String> {
        match text {
            "truncate" => Ok(Sums::Truncate),
            "round" => Ok(Sums::Round),
            _ => Err(format!("sums `{text}`; give truncate or round")),
        }
    }
}

/// A device to emulate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hardware {
    /// The card, with its limits.
    pub card: Card,
    /// How `mma` rounds.
    pub sums: Sums,
    /// How results of `.approx` and `.full` err. With a seed each is wrong by what PTX allows, half
    /// of them by as much as it allows, the other half by a part of it; sign and size follow from
    /// the operands and the seed. Without, they are rounded to nearest.
    pub approximate: Option<u64>,
}

impl Hardware {
    /// The card of a compute capability (times ten), no kinder than it is known to be: sums are
    /// truncated, approximations err as far as they may.
    pub fn strict(capability: u32) -> Option<Hardware> {
        let card = Card::of(capability)?;
        Some(Hardware { card, sums: Sums::Truncate, approximate: Some(1) })
    }

    /// The same card with everything rounded to nearest.
    pub fn rounding(capability: u32) -> Option<Hardware> {
        let card = Card::of(capability)?;
        Some(Hardware { card, sums: Sums::Round, approximate: None })
    }

    /// [`Hardware::strict`] or [`Hardware::rounding`], by how sums are made.
    pub fn with_sums(capability: u32, sums: Sums) -> Option<Hardware> {
        match sums {
            Sums::Truncate => Hardware::strict(capability),
            Sums::Round => Hardware::rounding(capability),
        }
    }
}

/// A capability times ten, and how sums are made if not truncated: `90`, `90-truncate`, `90-round`.
impl FromStr for Hardware {
    type Err = String;

    fn from_str(text: &str) -> Result<Hardware, String> {
        let (capability, sums) = text.split_once('-').unwrap_or((text, "truncate"));
        let played = Card::ALL.map(|card| card.capability.to_string()).join(", ");
        let other = || format!("no emulator of compute capability `{capability}`; take {played}");
        let sums = sums.parse()?;
        let hardware = capability.parse().ok().and_then(|n| Hardware::with_sums(n, sums));
        hardware.ok_or_else(other)
    }
}

/// What a module's `.target` asks of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub capability: u32,
    reach: Reach,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// `sm_80`: this capability and every later one.
    Later,
    /// `sm_100f`: this one and later ones of the same major number.
    Family,
    /// `sm_90a`: this one only.
    Alone,
}

impl Target {
    /// Of `sm_90a` and its kind; none if it is nothing of the kind.
    pub fn parse(text: &str) -> Option<Target> {
        let number = text.strip_prefix("sm_")?;
        let (number, reach) = match number.strip_suffix('a') {
            Some(number) => (number, Reach::Alone),
            None => match number.strip_suffix('f') {
                Some(number) => (number, Reach::Family),
                None => (number, Reach::Later),
            },
        };
        Some(Target { capability: number.parse().ok()?, reach })
    }

    /// Why the card cannot run it; none if it can.
    pub fn refusal(self, card: Card) -> Option<String> {
        let version = |capability: u32| format!("{}.{}", capability / 10, capability % 10);
        let (own, wanted) = (card.capability, self.capability);
        let (runs, others) = match self.reach {
            Reach::Later => (own >= wanted, "or newer"),
            Reach::Family => (own >= wanted && own / 10 == wanted / 10, "or newer of its family"),
            Reach::Alone => (own == wanted, "only"),
        };
        (!runs).then(|| {
            format!(
                "runs on compute capability {} {others}, this device is an {} of {}",
                version(wanted),
                card.name,
                version(own)
            )
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let suffix = match self.reach {
            Reach::Later => "",
            Reach::Family => "f",
            Reach::Alone => "a",
        };
        write!(f, "sm_{}{suffix}", self.capability)
    }
}
