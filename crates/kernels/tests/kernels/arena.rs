//! Memory that is used again.

use tintype_kernels::{Arena, guard};

#[test]
fn what_is_dropped_is_used_again() {
    if guard::is_on() {
        return; // Guarded memory is never used again.
    }
    let arena = Arena::default();
    let lease = arena.take(1000);
    let address = lease.as_ptr();
    drop(lease);
    let again = arena.take(600);
    assert_eq!((again.as_ptr(), again.len()), (address, 600));
    assert!(address.addr().is_multiple_of(64));
}

#[test]
fn leases_never_overlap_and_hold_what_is_written() {
    let arena = Arena::default();
    let mut leases = Vec::new();
    let mut state = 1u32;
    for round in 0..2000u32 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if state >> 30 == 0 && !leases.is_empty() {
            let (value, lease): (f32, tintype_kernels::Lease) =
                leases.swap_remove(state as usize % leases.len());
            assert!(lease.iter().all(|x| x.total_cmp(&value).is_eq()));
        } else if leases.len() < 40 {
            let mut lease = arena.take((state >> 12) as usize % 100_000);
            lease.fill(round as f32);
            leases.push((round as f32, lease));
        }
    }
    for (value, lease) in leases {
        assert!(lease.iter().all(|x| x.total_cmp(&value).is_eq()));
    }
    if guard::is_on() {
        assert_eq!(arena.held(), 0);
        return;
    }
    // All parts are whole again.
    let held = arena.held();
    drop(arena.take(held / 2));
    assert_eq!(arena.held(), held);
}

#[test]
fn unused_slabs_make_room_for_a_larger_one() {
    if guard::is_on() {
        return; // Guarded memory is never used again.
    }
    let arena = Arena::default();
    drop(arena.take(1000));
    let slab = arena.held();
    drop(arena.take(2 * slab));
    assert!(arena.held() < 3 * slab, "{}", arena.held());
    drop(arena.take(1));
    assert!(arena.held() > 2 * slab);
}
