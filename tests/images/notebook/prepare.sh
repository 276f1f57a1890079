# Its home is a directory of its own, that anybody may write to who runs there.
install -d -m 1777 home/jovyan
printf 'jovyan:x:1000:100::/home/jovyan:/bin/sh\n' >etc/passwd
