// SPDX-License-Identifier: Apache-2.0

// Package xdp is road C in the kernel and the end of road B: it loads, pins,
// attaches and replaces the BPF programs of bpf/, and writes and reads their
// maps. The programs and maps stay when the agent goes; Open takes them over.
//
// abi.go is the only place where byte order changes and where wire structs are
// seen.
package xdp
