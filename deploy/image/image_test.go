// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

const testRef = "registry.example/fairlead:v1"

// testOptions are for an image of a program that compiles in seconds.
func testOptions(t *testing.T) options {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command in PATH")
	}
	license := filepath.Join(t.TempDir(), "LICENSE")
	if err := os.WriteFile(license, []byte("free\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return options{
		pkg: "github.com/fairlead/fairlead/deploy/image/testdata/program", ref: testRef, version: "v1", license: license,
		platforms: []v1.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}},
		created:   time.Unix(1_700_000_000, 0).UTC(),
	}
}

// writeTest writes the archive and returns its path.
func writeTest(t *testing.T, o options) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	if _, err := writeFile(t.Context(), path, o); err != nil {
		t.Fatal(err)
	}
	return path
}

// unpack is what the archive holds as an OCI image layout.
func unpack(t *testing.T, path string) v1.ImageIndex {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func TestArchiveIsReproducible(t *testing.T) {
	o := testOptions(t)
	var archives [2][]byte
	for i := range archives {
		var err error
		if archives[i], err = os.ReadFile(writeTest(t, o)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two builds of the same sources differ")
	}
}

func TestArchiveAsLayout(t *testing.T) {
	top := unpack(t, writeTest(t, testOptions(t)))
	manifest, err := top.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 {
		t.Fatalf("%d entries in index.json, want 1", len(manifest.Manifests))
	}
	named := manifest.Manifests[0]
	want := map[string]string{"io.containerd.image.name": testRef, "org.opencontainers.image.ref.name": testRef}
	if diff := cmp.Diff(want, named.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if named.MediaType != types.OCIImageIndex {
		t.Errorf("media type %q, want %q", named.MediaType, types.OCIImageIndex)
	}
	index, err := top.ImageIndex(named.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Errorf("invalid: %v", err)
	}
	images, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, d := range images.Manifests {
		platforms = append(platforms, d.Platform.String())
		img, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, img, d.Platform.Architecture)
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, platforms); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
}

// checkImage runs the binary of this machine's architecture.
func checkImage(t *testing.T, img v1.Image, arch string) {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != arch || config.OS != "linux" {
		t.Errorf("configuration is for %s/%s, want linux/%s", config.OS, config.Architecture, arch)
	}
	if config.Config.User != unprivileged || !cmp.Equal(config.Config.Entrypoint, []string{"/fairlead"}) {
		t.Errorf("user %q and entry point %q", config.Config.User, config.Config.Entrypoint)
	}
	files := imageFiles(t, img)
	if string(files["LICENSE"]) != "free\n" {
		t.Errorf("licence: %q", files["LICENSE"])
	}
	if arch != runtime.GOARCH || runtime.GOOS != "linux" {
		return
	}
	path := filepath.Join(t.TempDir(), "fairlead")
	if err := os.WriteFile(path, files["fairlead"], 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(path).CombinedOutput(); err != nil || string(out) != "v1" {
		t.Errorf("the binary says %q, %v; want v1", out, err)
	}
}

func imageFiles(t *testing.T, img v1.Image) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	content := mutate.Extract(img)
	defer content.Close()
	for r := tar.NewReader(content); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Mode&0o022 != 0 {
			t.Errorf("%s belongs to %d:%d with mode %o", h.Name, h.Uid, h.Gid, h.Mode)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// Docker that keeps images itself finds the first platform.
func TestArchiveForDocker(t *testing.T) {
	path := writeTest(t, testOptions(t))
	tag, err := name.NewTag(testRef)
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(path, &tag)
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, img, "amd64")
}

func TestWrongOptions(t *testing.T) {
	for _, row := range []struct {
		name, want string
		args       []string
		epoch      string
	}{
		{"no output", "want -o FILE", nil, ""},
		{"argument", "want -o FILE", []string{"-o", "x", "y"}, ""},
		{"no tag", "registry.example/fairlead", []string{"-o", "x", "-ref", "registry.example/fairlead"}, ""},
		{"no registry", `"fairlead:v1"`, []string{"-o", "x", "-ref", "fairlead:v1"}, ""},
		{"platform without architecture", `"linux"`, []string{"-o", "x", "-platforms", "linux"}, ""},
		{"foreign system", `"plan9/amd64"`, []string{"-o", "x", "-platforms", "plan9/amd64"}, ""},
		{"time", `"noon"`, []string{"-o", "x"}, "noon"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("SOURCE_DATE_EPOCH", row.epoch)
			t.Chdir(t.TempDir())
			err := run(t.Context(), row.args, io.Discard)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want one with %q", err, row.want)
			}
		})
	}
}
