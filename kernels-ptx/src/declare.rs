//! How a kernel is declared: once, for the compiler that makes PTX of it and for the host that launches
//! it. What stands in an op's `mod.rs` as
//!
//! ```text
//! kernels! {
//!     /// Writes a_NF.
//!     pub struct Forward<E> {
//!         a_NF: *mut E,
//!         gu_N2F: *const E,
//!         N: u32,
//!         F: u32,
//!     }
//!     for swiglu_forward_f32 { type E = f32; } swiglu_forward_bf16 { type E = Bf16; }
//!     => { body }
//! }
//! ```
//!
//! is on the GPU a kernel of each name behind `for`, whose parameters are the struct's fields and whose
//! body knows the types and constants in the braces behind its name. A body also sees what the op's
//! module `device` has, `math` with `Bf16`, and `ptx` with `Single` and `Wide`.
//!
//! On the host it is that struct, with a public field for each parameter, the [`Storage`] that is meant
//! where the declaration is generic, and the fields of `grid { .. }`, which the grid depends on and no
//! kernel reads. Its names are constants of the struct, so that `launch.rs` beside it, which has to say
//! in a method `grid` which of them runs with how many threads, cannot choose a kernel of other
//! parameters. Arguments are packed in the order of the fields, here and nowhere else.
//!
//! [`Storage`]: crate::launch::Storage

#[cfg(target_arch = "nvptx64")]
macro_rules! kernels {
    (@kernel $kernel:ident { $($setting:tt)* } {
        $($(#[$_about:meta])* $parameter:ident: $type:ty),+ $(,)?
    } $body:tt) => {
        const _: () = {
            use crate::math::{self, Bf16};
            use crate::ptx::{self, Single, Wide};
            use self::device::*;
            $($setting)*
            #[unsafe(no_mangle)]
            unsafe extern "ptx-kernel" fn $kernel($($parameter: $type),+) {
                // SAFETY: a launch is of the same declaration, and ops check lengths before it.
                unsafe $body
            }
        };
    };
    (@each $parameters:tt $body:tt $($kernel:ident $settings:tt)+) => {
        $(kernels!(@kernel $kernel $settings $parameters $body);)+
    };
    ($(
        $(#[$_about:meta])+
        pub struct $_launch:ident $(<$_E:ident>)? { $($parameters:tt)+ }
        $(grid $_grid:tt)?
        for $($kernel:ident $settings:tt)+
        => $body:tt
    )+) => {
        $(kernels!(@each { $($parameters)+ } $body $($kernel $settings)+);)+
    };
}

#[cfg(not(target_arch = "nvptx64"))]
macro_rules! kernels {
    ($(
        $(#[$about:meta])+
        pub struct $launch:ident $(<$E:ident>)? {
            $($(#[$of_parameter:meta])* $parameter:ident: $type:ty),+ $(,)?
        }
        $(grid { $($(#[$of_extra:meta])+ $extra:ident: $extra_type:ty),+ $(,)? })?
        for $($kernel:ident $_settings:tt)+
        => $_body:tt
    )+) => {$(
        $(#[$about])+
        #[allow(missing_docs)]
        pub struct $launch $(<$E>)? {
            $(
                #[doc = concat!("What `", stringify!($E), "` stands for.")]
                pub storage: $crate::launch::Storage,
            )?
            $($(#[$of_parameter])* pub $parameter: $type,)+
            $($($(#[$of_extra])+ pub $extra: $extra_type,)+)?
        }

        #[allow(non_upper_case_globals)]
        impl $(<$E>)? $launch $(<$E>)? {
            $(const $kernel: &'static str = stringify!($kernel);)+
        }

        impl $(<$E>)? $crate::launch::Kernel for $launch $(<$E>)? {
            fn launch(&self, target: $crate::launch::Target) -> $crate::launch::Launch {
                $(
                    // A type without a size is one that a test does not name.
                    let bytes = [self.storage.bytes(), 0];
                    assert!(bytes.contains(&size_of::<$E>()), "pointers to another storage");
                )?
                self.grid(target)
            }

            fn arguments(&self) -> impl AsRef<[$crate::launch::Arg]> {
                const COUNT: usize = [$(stringify!($parameter)),+].len();
                const { assert!(COUNT <= $crate::launch::MOST_ARGUMENTS, "more than drivers take") };
                [$($crate::launch::Arg::from(self.$parameter)),+]
            }
        }
    )+};
}
