# Debian has its modules in files of their own, which nothing here wants.
rm -rf etc/nginx/{sites-enabled,sites-available,modules-enabled,conf.d} usr/lib/nginx/modules
mkdir -p var/lib/nginx var/log/nginx
