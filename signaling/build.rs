//! The page is built by npm before a release; a checkout without it still compiles and serves `OK` instead.

fn main() {
    println!("cargo:rerun-if-changed=web/dist");
    // An absent folder is not fatal: what then is missing is the page alone.
    let _ = std::fs::create_dir_all("web/dist");
}
