package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// wanted are the modules that the guest loads, with what they depend on.
var wanted = []string{"xhci-pci", "ftdi_sio", "usbhid", "hid-generic", "vhci-hcd"}

// kernel is an unpacked kernel package.
type kernel struct {
	version string
	image   string   // what QEMU starts
	modules []string // files, in the order of loading
}

// openKernel finds the kernel under dir, whatever its version. Two would be a
// mistake of whoever unpacked them.
func openKernel(dir string) (kernel, error) {
	found, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil || len(found) != 1 {
		return kernel{}, fmt.Errorf("%d kernels under %s/boot, one is needed", len(found), dir)
	}
	k := kernel{version: strings.TrimPrefix(filepath.Base(found[0]), "vmlinuz-"), image: found[0]}
	k.image = plain(found[0])
	root := filepath.Join(dir, "lib", "modules", k.version)
	files, err := moduleFiles(root)
	if err != nil {
		return kernel{}, err
	}
	builtin, err := os.ReadFile(filepath.Join(root, "modules.builtin"))
	if err != nil {
		return kernel{}, err
	}
	for line := range strings.FieldsSeq(string(builtin)) {
		files[moduleName(line)] = ""
	}
	k.modules, err = resolve(files, dependsOn, wanted)
	return k, err
}

// plain is the uncompressed kernel of an image, which boots sooner, or the image
// itself where it is packed in another way.
func plain(image string) string {
	out := filepath.Join(filepath.Dir(image), strings.Replace(filepath.Base(image), "vmlinuz", "vmlinux", 1))
	if _, err := os.Stat(out); err == nil {
		return out
	}
	data, err := os.ReadFile(image)
	if err != nil {
		return image
	}
	i := bytes.Index(data, []byte{0xFD, '7', 'z', 'X', 'Z', 0, 0})
	if i < 0 {
		return image
	}
	xz := exec.Command("xz", "-dc") // it complains about what follows the stream
	xz.Stdin = bytes.NewReader(data[i:])
	raw, _ := xz.Output()
	if _, err := elf.NewFile(bytes.NewReader(raw)); err != nil {
		return image
	}
	if os.WriteFile(out+".new", raw, 0o644) != nil || os.Rename(out+".new", out) != nil {
		return image
	}
	return out
}

// moduleName is a module as the kernel names it.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func moduleFiles(root string) (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.Contains(filepath.Base(path), ".ko") {
			files[moduleName(path)] = path
		}
		return err
	})
	return files, err
}

// readModule is a module's content, unpacked.
func readModule(path string) ([]byte, error) {
	if strings.HasSuffix(path, ".xz") {
		return exec.Command("xz", "-dc", path).Output()
	}
	return os.ReadFile(path)
}

// dependsOn reads what a module says that it needs.
func dependsOn(path string) ([]string, error) {
	data, err := readModule(path)
	if err != nil {
		return nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", path, err)
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("module %s says nothing of itself", path)
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	for field := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := strings.CutPrefix(string(field), "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}

// resolve orders modules so that each comes after those that it needs. files maps
// a name to its file, or to nothing where it is built in.
func resolve(files map[string]string, needs func(path string) ([]string, error), names []string) ([]string, error) {
	var order []string
	done := map[string]bool{}
	var visit func(name string) error
	visit = func(name string) error {
		name = strings.ReplaceAll(name, "-", "_")
		if done[name] {
			return nil
		}
		done[name] = true
		path, ok := files[name]
		if !ok {
			return errors.New("the kernel has no module " + name)
		}
		if path == "" {
			return nil
		}
		list, err := needs(path)
		if err != nil {
			return err
		}
		for _, other := range list {
			if err := visit(other); err != nil {
				return err
			}
		}
		if !slices.Contains(order, path) {
			order = append(order, path)
		}
		return nil
	}
	for _, name := range names {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}
