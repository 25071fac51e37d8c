// SPDX-License-Identifier: Apache-2.0

package cluster

// ModeUserspace is the mode of agents with the userspace datapath.
const ModeUserspace = "userspace"

// NeedsNative says that agents in the mode need lab.Options.Native.
func NeedsNative(mode string) bool { return mode == "native" || mode == ModeUserspace }

// Mode is the mode that an agent says it has.
func (s Status) Mode() string {
	if s.Datapath == ModeUserspace {
		return ModeUserspace
	}
	return s.XDPMode
}

// ModeArgs are what tells an agent its mode.
func ModeArgs(mode string) []string {
	switch mode {
	case "":
		return nil
	case ModeUserspace:
		return []string{"--datapath=userspace", "--xdp-mode=native"}
	default:
		return []string{"--xdp-mode=" + mode}
	}
}
