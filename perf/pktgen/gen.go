// SPDX-License-Identifier: Apache-2.0

package pktgen

//go:generate go tool bpf2go -target bpfel -go-package pktgen -output-stem pktgen bpf bpf/pktgen.bpf.c -- -O2 -g -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter -I/usr/include/x86_64-linux-gnu
