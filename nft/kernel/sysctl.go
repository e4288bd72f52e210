package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"wg-multihome/nft"
)

// confDir has the settings of each IPv4 interface, those of the caller's
// network namespace.
const confDir = "/proc/sys/net/ipv4/conf"

// ReadFilters reads what of nft.Filter the kernel knows, for each of the
// devices that is there; nil where the kernel has no IPv4.
func ReadFilters(devices []string) ([]nft.Filter, error) {
	list := []nft.Filter{}
	allRP, err := readConf("all", "rp_filter")
	if errors.Is(err, fs.ErrNotExist) { // no IPv4, or no /proc
		return nil, nil
	}
	allValid, validErr := readConf("all", "src_valid_mark")
	errs := []error{err, validErr}
	for _, d := range devices {
		rp, err := readConf(d, "rp_filter")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		valid, validErr := readConf(d, "src_valid_mark")
		errs = append(errs, err, validErr)
		list = append(list, nft.Filter{Device: d, RPFilter: rp, AllRPFilter: allRP, ValidMark: valid, AllValidMark: allValid})
	}
	return list, errors.Join(errs...)
}

func readConf(device, key string) (int, error) {
	path := filepath.Join(confDir, device, key)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// Set makes the step. A device that is gone is no error.
func Set(s nft.Sysctl) error {
	err := os.WriteFile(filepath.Join(confDir, s.Device, "src_valid_mark"), []byte(strconv.Itoa(s.Value)), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", s, err)
	}
	return nil
}
