//! Devices, buffers, arenas and ops.
