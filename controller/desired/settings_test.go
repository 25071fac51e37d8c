// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseSettings(t *testing.T) {
	defaults := Settings{
		XDPMode: "auto", PinPath: DefaultPinPath, Socket: DefaultSocket, GenevePort: defaultGenevePort, Past: defaultPast, Limits: defaultLimits,
	}
	with := func(edit func(*Settings)) Settings {
		s := defaults
		edit(&s)
		return s
	}
	for _, test := range []struct {
		name, text string
		want       Settings
		problem    string
	}{
		{name: "nothing", want: defaults},
		{name: "no interfaces", text: "interfaces: []", want: defaults},
		{
			name: "all",
			text: "interfaces: [eth1]\nxdpMode: off\npinPath: /p\nsocket: /s\ngenevePort: 7000\npastTimeout: 1h\nlimits: {flows: 2048, services: 1, backends: 2, tableMemory: 1Mi}",
			want: with(func(s *Settings) {
				*s = Settings{
					Interfaces: []string{"eth1"}, XDPMode: "off", PinPath: "/p", Socket: "/s", GenevePort: 7000, Past: time.Hour,
					Limits: Limits{Flows: 2048, Services: 1, Backends: 2, TableMemory: 1 << 20},
				}
			}),
		},
		{
			name: "what the API tells", text: "node: n\nkey: x",
			problem: "node: unknown field: want genevePort, interfaces, limits, pastTimeout, pinPath, socket or xdpMode\n" +
				"key: unknown field: want genevePort, interfaces, limits, pastTimeout, pinPath, socket or xdpMode",
		},
		{name: "a wrong one", text: "genevePort: 6081", problem: "genevePort: 6081: is left to CNIs: want another port"},
	} {
		s, err := ParseSettings([]byte(test.text))
		if got := errorText(err); got != test.problem {
			t.Errorf("%s: %q, want %q", test.name, got, test.problem)
		}
		if test.problem != "" {
			continue
		}
		if diff := cmp.Diff(test.want, s.Settings); diff != "" || s.Revision == "" {
			t.Errorf("%s: revision %q, -want +got:\n%s", test.name, s.Revision, diff)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
