use crate::check::{Bf16, F32, Gen, Output, devices, int, ptr};
use kernels_ptx::launch::{Storage, bias};

/// (N, O)
const SHAPES: [(usize, usize); 6] = [(1, 1), (1, 8), (3, 7), (33, 24), (70, 300), (5, 136)];

fn case(storage: Storage, (N, O): (usize, usize)) {
    let g = &mut Gen::new((N * 1000 + O) as u64);
    let (y, b) = (g.normals(storage, N * O, 1.0), g.normals(storage, O, 1.0));
    let (dy, before) = (g.normals(storage, N * O, 1.0), g.normals(F32, O, 1.0));
    let sum: Vec<f64> = (0..N * O).map(|i| y[i] + b[i % O]).collect();
    let mut db = before.clone();
    (0..N * O).for_each(|i| db[i % O] += dy[i]);
    let context = format!("{storage:?} N{N} O{O}");
    for mut d in devices() {
        let (py, pb) = (d.put(storage, &y), d.put(storage, &b));
        let (pdb, pdy) = (d.put(F32, &before), d.put(storage, &dy));
        let sizes = [int(N), int(O)];
        let args = [&[py, pb].map(ptr)[..], &sizes].concat();
        d.run(bias::forward(storage, N as u32, O as u32), &args);
        Output::new("y", storage, d.get(storage, py, N * O), sum.clone()).check(&context);
        let args = [&[pdb, pdy].map(ptr)[..], &sizes].concat();
        d.run(bias::backward(storage, O as u32), &args);
        Output::new("db", F32, d.get(F32, pdb, O), db.clone()).check(&context);
    }
}

#[test]
fn against_f64() {
    for shape in SHAPES {
        case(F32, shape);
        case(Bf16, shape);
    }
}

#[test]
fn bytes() {
    let (N, O) = (64, 256);
    let g = &mut Gen::new(0);
    for mut d in devices() {
        let [y, dy] = [(); 2].map(|()| d.put(Bf16, &g.normals(Bf16, N * O, 1.0)));
        let (b, db) = (d.put(Bf16, &g.normals(Bf16, O, 1.0)), d.put(F32, &g.normals(F32, O, 1.0)));
        let sizes = [int(N), int(O)];
        let args = [&[y, b].map(ptr)[..], &sizes].concat();
        d.run(bias::forward(Bf16, N as u32, O as u32), &args);
        // The bias is read once a row, from a cache that is not counted.
        d.moved_at_most(3 * N * O * 2);
        let args = [&[db, dy].map(ptr)[..], &sizes].concat();
        d.run(bias::backward(Bf16, O as u32), &args);
        d.moved_at_most(N * O * 2 + 2 * O * 4);
    }
}
