//! Tables beside that of the connections: what few of them have, by their index.

/// The entry at `index`, for which room is made.
pub(super) fn entry<T: Default>(table: &mut Vec<T>, index: u32) -> &mut T {
    let place = index as usize;
    if place >= table.len() {
        table.resize_with(place + 1, T::default);
    }
    &mut table[place]
}
