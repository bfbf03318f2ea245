use crate::check::{Gen, Output, agree, agree_on_gpus, central_differences, devices, gpus, narrow};
use crate::check::{notice, notice_on_gpus, put, same_bits, take, wide};
use engine::ops::norm::{reference, sum_of_squares};
use engine::{Device, Real};

const LENGTHS: [usize; 9] = [1, 7, 8, 17, 1023, 1024, 1025, 65_541, 200_003];

fn sum<R: Real>(dev: &Device, x: &[R]) -> f64 {
    let mut sum_1 = put(dev, &[f64::NAN]);
    sum_of_squares(dev, sum_1.view_mut(), put(dev, x).view());
    take(sum_1)[0]
}

fn case<R: Real>(dev: &Device, g: &mut Gen, len: usize) -> Vec<Output> {
    let x = g.normals::<R>(len, 3.0);
    let got = [narrow::<R>(sum(dev, &x))];
    let plain = [x.iter().map(|&x| x * x).sum::<R>()];
    vec![Output::new("norm", &got, &plain, [reference::sum_of_squares(&wide(&x))])]
}

#[test]
fn reference_against_central_differences() {
    let x = Gen::new(0).normals::<f64>(5, 1.0);
    let twice = x.iter().map(|x| 2.0 * x);
    central_differences("x", &x, twice, reference::sum_of_squares);
}

#[test]
fn cpu_against_reference() {
    agree(&LENGTHS, case::<f64>);
    agree(&LENGTHS, case::<f32>);
}

#[test]
fn gpu_against_reference() {
    agree_on_gpus(&LENGTHS, case::<f32>);
}

#[test]
fn planted_errors_are_noticed() {
    notice(1025, case::<f32>);
    notice_on_gpus(1025, case::<f32>);
}

#[test]
fn bits_do_not_depend_on_threads() {
    for isa_and_type in [case::<f32>, case::<f64>] {
        same_bits(200_003, isa_and_type);
    }
}

#[test]
fn one_bad_element_spoils_the_sum() {
    let check = |dev: &Device| {
        for (at, bad) in (0..37).flat_map(|i| [(i, f32::NAN), (i, f32::NEG_INFINITY)]) {
            let mut x = [1f32; 37];
            x[at] = bad;
            let sum = sum(dev, &x);
            assert!(!sum.is_finite(), "{}: {bad} at {at} is lost", dev.describe());
        }
    };
    devices(2).for_each(|dev| check(&dev));
    gpus().for_each(|dev| check(&dev));
}
