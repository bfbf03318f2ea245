//! What all op tests share: generated inputs, devices, and the error budget.

pub use crate::generated::Gen;
pub use crate::gpus::gpus;
use engine::{Buf, Cpu, Device, Dtype, Element, Isa, Real};
use ndarray::{Array2, ArrayView2};
pub use ptx_emu::bounds;

impl Gen {
    /// `len` normal numbers of deviation `scale`, rounded to E.
    pub fn normals<E: Element>(&mut self, len: usize, scale: f64) -> Vec<E> {
        (0..len).map(|_| narrow(self.normal() * scale)).collect()
    }
}

/// One device for each instruction set of this CPU.
pub fn devices(threads: usize) -> impl Iterator<Item = Device> {
    Isa::all_available().map(move |isa| Device::Cpu(Cpu::with_isa(threads, isa).unwrap()))
}

/// A copy of `x` on the device.
pub fn put<E: Element>(dev: &Device, x: &[E]) -> Buf<E> {
    Buf::of(dev, x)
}

/// The elements of a buffer, wherever they are.
pub fn take<E: Element>(buf: Buf<E>) -> Vec<E> {
    buf.view().read().unwrap().into_owned()
}

/// Rounds to E.
pub fn narrow<E: Element>(x: f64) -> E {
    E::from_acc(E::Acc::from_f64(x))
}

/// Widens, exactly.
pub fn wide<E: Element>(x: &[E]) -> Vec<f64> {
    x.iter().map(|x| x.to_acc().to_f64()).collect()
}

/// `x` as rows of `cols`, widened.
pub fn matrix<E: Element>(x: &[E], cols: usize) -> Array2<f64> {
    Array2::from_shape_vec((x.len() / cols, cols), wide(x)).unwrap()
}

/// `x` as rows of `cols`.
pub fn rows_of(x: &[f64], cols: usize) -> ArrayView2<'_, f64> {
    ArrayView2::from_shape((x.len() / cols, cols), x).unwrap()
}

/// One output of one call, beside what it should be.
pub struct Output {
    what: &'static str,
    storage: &'static str,
    got: Vec<f64>,
    plain: Vec<f64>,
    exact: Vec<f64>,
    /// What a GPU's arithmetic may add to the error.
    hardware: f64,
}

impl Output {
    /// `got` by the engine and `plain` by a sequential loop in the same storage type, against
    /// `exact` from the f64 reference.
    pub fn new<E: Element>(
        what: &'static str,
        got: &[E],
        plain: &[E],
        exact: impl IntoIterator<Item = f64>,
    ) -> Self {
        let exact: Vec<f64> = exact.into_iter().collect();
        assert!(got.len() == exact.len() && plain.len() == exact.len() && !exact.is_empty());
        let (got, plain) = (wide(got), wide(plain));
        Output { what, storage: E::NAME, got, plain, exact, hardware: 0.0 }
    }

    /// On a GPU the error may be larger by `most` of its compute capability: what follows from how
    /// tensor cores sum and approximations err, see [`bounds`]. On the CPU nothing changes.
    pub fn allowing(self, dev: &Device, most: impl FnOnce(u32) -> f64) -> Self {
        match dev {
            Device::Cpu(_) => self,
            Device::Cuda(cuda) => Output { hardware: most(cuda.target().capability), ..self },
        }
    }

    /// (error of the engine, error of the plain loop, budget), as shares of the largest exact
    /// value. The budget is twice the plain loop's error and a floor, because that error may be
    /// zero by luck: two units in the last place of f32, and for bf16 the rounding to it. The
    /// reference is no better than f64 itself: 1e-12 there. A GPU's budget is larger by what its
    /// arithmetic is known to do.
    fn errors(&self) -> (f64, f64, f64) {
        let largest = self.exact.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
        // What a GPU may err by has no share in zeros: there errors are absolute.
        let largest = if largest == 0.0 && self.hardware > 0.0 { 1.0 } else { largest };
        let error = |got: &[f64]| {
            let errors = got.iter().zip(&self.exact).map(|(got, exact)| (got - exact).abs());
            let worst =
                errors.fold(0.0, |max: f64, e| if max >= e || max.is_nan() { max } else { e });
            if worst == 0.0 { 0.0 } else { worst / largest }
        };
        let (got, plain) = (error(&self.got), error(&self.plain));
        let two_ulp = 2.0 * f64::from(f32::EPSILON);
        let budget = match self.storage {
            "f64" => 1e-12,
            "f32" => 2.0 * plain + two_ulp,
            _ => 2.0 * plain + two_ulp + 2f64.powi(-8),
        };
        let hardware = if self.hardware == 0.0 { 0.0 } else { self.hardware / largest };
        (got, plain, budget + hardware)
    }

    /// Whether the error is within the budget; NaN is not.
    fn holds(&self) -> bool {
        let (got, _, budget) = self.errors();
        got <= budget
    }

    /// The same, wrong by 1 % (bf16: 5 %) in the element of largest size.
    fn spoilt(mut self) -> Self {
        let off = if self.storage == "bf16" { 1.05 } else { 1.01 };
        let size = |i: &usize| self.exact[*i].abs();
        let largest = (0..self.exact.len()).max_by(|i, j| size(i).total_cmp(&size(j))).unwrap();
        self.got[largest] *= off;
        self
    }
}

/// Runs `case` on every shape and instruction set, and holds its outputs against the budget.
/// With `--nocapture` it prints the errors.
pub fn agree<S: Copy + std::fmt::Debug>(
    shapes: &[S],
    case: impl Fn(&Device, &mut Gen, S) -> Vec<Output>,
) {
    devices(2).for_each(|dev| agree_on(&dev, shapes, &case));
}

/// The same on GPUs, emulated and real.
pub fn agree_on_gpus<S: Copy + std::fmt::Debug>(
    shapes: &[S],
    case: impl Fn(&Device, &mut Gen, S) -> Vec<Output>,
) {
    gpus().for_each(|dev| agree_on(&dev, shapes, &case));
}

/// Runs `check` on each instruction set of this CPU, and on GPUs.
pub fn everywhere(check: impl Fn(&Device)) {
    devices(2).for_each(|dev| check(&dev));
    gpus().for_each(|dev| check(&dev));
}

fn agree_on<S: Copy + std::fmt::Debug>(
    dev: &Device,
    shapes: &[S],
    case: impl Fn(&Device, &mut Gen, S) -> Vec<Output>,
) {
    for (seed, &shape) in shapes.iter().enumerate() {
        for output in case(dev, &mut Gen::new(seed as u64), shape) {
            let (got, plain, budget) = output.errors();
            let line = format!(
                "{} {} {} {shape:?}: error {got:.2e}, plain loop {plain:.2e}, budget {budget:.2e}",
                output.what,
                output.storage,
                dev.describe(),
            );
            println!("{line}");
            assert!(output.holds(), "{line}");
        }
    }
}

/// The check of [`agree`] must refuse each output of `case` once that is spoilt.
pub fn notice<S: Copy>(shape: S, case: impl Fn(&Device, &mut Gen, S) -> Vec<Output>) {
    notice_on(&Device::cpu(2).unwrap(), shape, case);
}

/// The same for [`agree_on_gpus`], whose budget is larger.
pub fn notice_on_gpus<S: Copy>(shape: S, case: impl Fn(&Device, &mut Gen, S) -> Vec<Output>) {
    gpus().for_each(|dev| notice_on(&dev, shape, &case));
}

fn notice_on<S>(dev: &Device, shape: S, case: impl Fn(&Device, &mut Gen, S) -> Vec<Output>) {
    for output in case(dev, &mut Gen::new(1), shape) {
        let (what, place) = (output.what, dev.describe());
        assert!(output.holds(), "{place}: {what}: wrong before it was spoilt");
        assert!(!output.spoilt().holds(), "{place}: {what}: a planted error was not noticed");
    }
}

/// The most by which a GPU errs in sums of K products in storage type E: tensor cores sum those of
/// brain floats, ordinary cores round each sum to nearest, as a plain loop does.
pub fn sum_bound<E: Element>(capability: u32, K: usize, largest: f64) -> f64 {
    if E::DTYPE == Dtype::Bf16 { bounds::sum(capability, K, largest) } else { 0.0 }
}

/// The largest size of a product, or of a sum on its way, among `cells` sums of K products.
pub fn on_the_way(cells: usize, K: usize, product: impl Fn(usize, usize) -> f64) -> f64 {
    let mut largest = 0.0;
    for cell in 0..cells {
        let mut sum = 0.0;
        for k in 0..K {
            let product = product(cell, k);
            sum += product;
            largest = product.abs().max(f64::abs(sum)).max(largest);
        }
    }
    largest
}

/// The outputs of `case` have the same bits for 1, 2, 3 and 4 threads.
pub fn same_bits<S: Copy>(shape: S, case: impl Fn(&Device, &mut Gen, S) -> Vec<Output>) {
    for isa in Isa::all_available() {
        let run = |threads| {
            let dev = Device::Cpu(Cpu::with_isa(threads, isa).unwrap());
            case(&dev, &mut Gen::new(2), shape)
        };
        let one = run(1);
        for threads in [2, 3, 4] {
            for (one, many) in one.iter().zip(run(threads)) {
                let same = one.got.iter().zip(&many.got).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{}: {threads} threads change bits on {isa:?}", one.what);
            }
        }
    }
}

/// The gradient `analytic` of `f` at `x` agrees with central differences.
pub fn central_differences(
    what: &str,
    x: &[f64],
    analytic: impl IntoIterator<Item = f64>,
    f: impl Fn(&[f64]) -> f64,
) {
    const H: f64 = 1e-5;
    let analytic: Vec<f64> = analytic.into_iter().collect();
    assert_eq!(x.len(), analytic.len(), "{what}");
    let largest = analytic.iter().fold(0.0, |max: f64, g| max.max(g.abs()));
    for i in 0..x.len() {
        let at = |h: f64| {
            let mut x = x.to_vec();
            x[i] += h;
            f(&x)
        };
        let numeric = (at(H) - at(-H)) / (2.0 * H);
        let error = (numeric - analytic[i]).abs() / largest;
        assert!(error < 1e-8, "{what}[{i}]: {} by formula, {numeric} by differences", analytic[i]);
    }
}

/// Sum of products: the scalar whose gradient with respect to `y` is `dy`.
pub fn dot<'a>(y: impl IntoIterator<Item = &'a f64>, dy: impl IntoIterator<Item = &'a f64>) -> f64 {
    y.into_iter().zip(dy).map(|(y, dy)| y * dy).sum()
}
