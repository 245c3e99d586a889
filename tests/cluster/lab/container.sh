# Becomes the program of one container, in a root file system of its own. Runs in new mount and PID namespaces, so that all
# mounts, and all processes, end with it.
#
# $1: an empty folder, $2: a file with lines `SOURCE TARGET` of what to mount, $3: a user, the rest: arguments of env.
set -eu
root=$1
mounts=$2
user=$3
shift 3
mount -t tmpfs -o mode=755 firstword "$root"
cd "$root"
mkdir dev etc proc run tmp usr var
chmod 1777 tmp
for name in bin lib lib32 lib64 libx32 sbin; do
    if [ -L "/$name" ]; then
        ln -s "$(readlink "/$name")" "$name"
    elif [ -d "/$name" ]; then
        mkdir "$name"
        mount --bind "/$name" "$name"
    fi
done
mount --bind /usr usr
mount -t tmpfs -o mode=755 firstword usr/local/bin
mount --rbind /dev dev
mount -t proc proc proc
while read -r source target; do
    if [ -d "$source" ]; then
        mkdir -p ".$target"
    else
        mkdir -p ".${target%/*}"
        : >".$target"
    fi
    mount --bind "$source" ".$target"
done <"$mounts"
# Set the signal again, because the kernel clears it when the user changes.
exec chroot . /usr/bin/setpriv --reuid="$user" --regid="$user" --clear-groups --pdeathsig=KILL -- /usr/bin/env -i "$@"
