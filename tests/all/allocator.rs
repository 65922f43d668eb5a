//! The router's allocator is that of the C libraries in it, too.

use std::collections::BTreeMap;
use std::fs;

use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSymbol as _};
use pointsman_tests::router;

/// A Rust program's global allocator does not reach librdkafka by itself, nor what comes back from the C library: memory
/// that one of them has allocated and another frees.
#[test]
fn the_router_brings_its_own_malloc() {
    let program = router::command().expect("the router is built").get_program().to_owned();
    let program = fs::read(program).expect("it can be read");
    let program = ElfFile64::<object::Endianness>::parse(&*program).expect("it is a program");
    // Those that it has itself, and those that the C library gets from it.
    for symbols in [program.symbols().collect(), program.dynamic_symbols().collect::<Vec<_>>()] {
        let places: BTreeMap<_, _> = symbols
            .iter()
            .filter(|symbol| symbol.is_definition())
            .filter_map(|symbol| Some((symbol.name().ok()?, symbol.address())))
            .collect();
        for name in ["malloc", "calloc", "realloc", "free"] {
            assert!(places.contains_key(name), "{name} is not the router's own");
        }
    }
}
