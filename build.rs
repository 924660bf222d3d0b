//! A migration alone does not rebuild what includes it.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
