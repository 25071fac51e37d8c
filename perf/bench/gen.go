// SPDX-License-Identifier: Apache-2.0

package main

//go:generate go tool bpf2go -target bpfel -go-package main -output-stem bench -type bench_flow -type bench_template bench bpf/bench.bpf.c -- -O2 -g -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter -I/usr/include/x86_64-linux-gnu
