use crate::check::{Bf16, F32, Gen, Output, devices, int};
use kernels_ptx::bias::{Backward, Forward};
use kernels_ptx::launch::Storage;

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
        let (y_acc_NO, b_O) = (d.put(storage, &y), d.put(storage, &b));
        let (db_acc_O, dy_NO) = (d.put_f32(&before), d.put(storage, &dy));
        d.run(&Forward { storage, y_acc_NO, b_O, N: int(N), O: int(O) });
        Output::new("y", storage, d.get(storage, y_acc_NO, N * O), sum.clone()).check(&context);
        d.run(&Backward { storage, db_acc_O, dy_NO, N: int(N), O: int(O) });
        Output::new("db", F32, d.get_f32(db_acc_O, O), db.clone()).check(&context);
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
        let [y_acc_NO, dy_NO] = [(); 2].map(|()| d.put_bf16(&g.normals(Bf16, N * O, 1.0)));
        let (b_O, db_acc_O) =
            (d.put_bf16(&g.normals(Bf16, O, 1.0)), d.put_f32(&g.normals(F32, O, 1.0)));
        d.run(&Forward { storage: Bf16, y_acc_NO, b_O, N: int(N), O: int(O) });
        // The bias is read once a row, from a cache that is not counted.
        d.moved_at_most(3 * N * O * 2);
        d.run(&Backward { storage: Bf16, db_acc_O, dy_NO, N: int(N), O: int(O) });
        d.moved_at_most(N * O * 2 + 2 * O * 4);
    }
}
