//! The instruction sets that kernels are compiled for, and the choice between them at run time.

use crate::error::Error;

/// The instruction sets that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 with the dot product of bf16 pairs (VDPBF16PS).
    Avx512Bf16,
    /// AVX-512 with its BW and VL parts: every CPU since Skylake-X.
    Avx512,
    /// AVX2 with fused multiply-add.
    Avx2,
    /// What every aarch64 CPU has.
    Neon,
    /// Plain Rust, for every other CPU.
    Portable,
}

impl Isa {
    const ALL: [Isa; 5] = [Isa::Avx512Bf16, Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Portable];

    /// Whether this CPU can run it.
    pub fn available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => Isa::Avx512.available() && is_x86_feature_detected!("avx512bf16"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => true,
            Isa::Portable => true,
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// Every set that this CPU can run, best first.
    pub fn all_available() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.available())
    }

    /// The best set of this CPU, or the one that `HANDGRAD_ISA` names.
    ///
    /// # Errors
    /// If the variable names an unknown set, or one that this CPU lacks.
    pub fn choose() -> Result<Isa, Error> {
        let choices = || Isa::all_available().map(Isa::name).collect::<Vec<_>>().join(", ");
        match std::env::var("HANDGRAD_ISA") {
            Err(_) => Ok(Isa::all_available().next().unwrap_or(Isa::Portable)),
            Ok(wanted) => Isa::all_available().find(|isa| isa.name() == wanted).ok_or_else(|| {
                let choices = choices();
                Error::Config(format!("HANDGRAD_ISA={wanted}: this CPU offers {choices}"))
            }),
        }
    }

    /// Whether it has dot products of bf16 pairs: `dispatch_dots` may be called.
    pub fn dots(self) -> bool {
        self == Isa::Avx512Bf16
    }

    /// As `HANDGRAD_ISA` names it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512Bf16 => "avx512bf16",
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Neon => "neon",
            Isa::Portable => "portable",
        }
    }
}
