// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseDemo(t *testing.T) {
	for _, tc := range []struct {
		args string
		want demoOptions
		fail string // part of the usage error
	}{
		{args: "", want: demoOptions{datapath: "kernel", xdpMode: "auto"}},
		{args: "--xdp-mode=off --json --soft-hop", want: demoOptions{datapath: "kernel", xdpMode: "off", json: true, softHop: true}},
		{args: "--keep", want: demoOptions{datapath: "kernel", xdpMode: "auto", keep: true}},
		{args: "--cleanup", want: demoOptions{datapath: "kernel", xdpMode: "auto", cleanup: true}},
		{args: "--xdp-mode=fast", fail: `unknown XDP mode "fast": want one of auto, native, generic, off`},
		{args: "--datapath=userspace", want: demoOptions{datapath: "userspace", xdpMode: "auto"}},
		{args: "--datapath=fast", fail: `unknown datapath "fast": want kernel or userspace`},
		{args: "now", fail: `unexpected argument "now"`},
	} {
		var out bytes.Buffer
		got, err := parseDemo(&env{stdout: &out, stderr: &out}, strings.Fields(tc.args))
		var usage usageError
		switch {
		case tc.fail != "":
			if !errors.As(err, &usage) || !strings.Contains(err.Error(), tc.fail) {
				t.Errorf("%q: error %v, want %q", tc.args, err, tc.fail)
			}
		case err != nil:
			t.Errorf("%q: %v", tc.args, err)
		default:
			got.binary = ""
			if got != tc.want {
				t.Errorf("%q: %+v, want %+v", tc.args, got, tc.want)
			}
		}
	}
}

func TestDemoReportJSON(t *testing.T) {
	r := demoReport{
		OK: true, Datapath: "kernel", XDPMode: "generic",
		Cases:  []demoCase{{"tcp4-cluster", 1000, 0, true, map[string]int{"pod1-1": 1000}}},
		Events: []demoEvent{{Name: "drain-pod", Broken: 2, what: "not shown"}},
	}
	got, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"ok":true,"datapath":"kernel","xdpMode":"generic","cases":[{"name":"tcp4-cluster","requests":1000,"failed":0,` +
		`"clientAddressPreserved":true,"shares":{"pod1-1":1000}}],"events":[{"name":"drain-pod","broken":2}]}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}
