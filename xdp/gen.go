// SPDX-License-Identifier: Apache-2.0

package xdp

//go:generate go tool bpf2go -target bpfel -go-package xdp -output-stem lb -type lb_limit -type lb_timeout -type lb_geneve -type lb_position -type lb_verdict -type lb_reason -type lb_version -type lb_service_flag -type lb_endpoint_flag -type lb_flow_kind -type lb_flow_state -type lb_flow_flag -type lb_meta_magic -type lb_service -type lb_service_key -type lb_backend -type lb_backend_key -type lb_endpoint_key -type lb_endpoint -type lb_range_key -type lb_node -type lb_flow -type lb_meta -type lb_option -type lb_service_stats -type lb_identity -type lb_bucket -type lb_line -type lb_owner_query -type lb_addr -type lb_fragment_key -type lb_loop_counters bpf bpf/lb.bpf.c -- -O2 -g -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter -I/usr/include/x86_64-linux-gnu
